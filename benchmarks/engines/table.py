"""A Markdown table of engines against PyTorch, from what `lat-export bench` measured on a GPU.

python benchmarks/engines/table.py benchmarks/results/bench_gpu_*.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SUBJECTS = {
    "engine": "engine",
    "engine-graph": "CUDA graph",
    "pytorch-gpu": "PyTorch eager",
    "pytorch-gpu-compile": "torch.compile",
}


def lines(files: Sequence[Path]) -> Iterator[str]:
    """Milliseconds of the device's clock, without copies, and how much faster the engine's graph is than the faster of
    PyTorch's two; a subject without figures has a dash."""
    yield f"| model | B | N | {' | '.join(SUBJECTS.values())} | faster | requests/s |"
    yield f"|---|{'---:|' * (4 + len(SUBJECTS))}"
    for file in files:
        result = json.loads(file.read_text())
        for point in result["points"]:
            yield line(file.stem.removeprefix("bench_gpu_"), point)


def line(name: str, point: dict[str, Any]) -> str:
    rows = {row["subject"]: row for row in point["rows"] if row["error"] is None}
    medians = {subject: rows[subject]["latency"]["median"] for subject in SUBJECTS if subject in rows}
    engines = [medians[subject] for subject in ("engine-graph", "engine") if subject in medians]
    pytorch = [medians[subject] for subject in ("pytorch-gpu", "pytorch-gpu-compile") if subject in medians]
    faster = f"{min(pytorch) / engines[0]:.2f} x" if engines and pytorch else "-"
    cells = [f"{medians[subject] * 1e3:.3f} ms" if subject in medians else "-" for subject in SUBJECTS]
    return " | ".join([f"| {name}", str(point["batch"]), str(point["tokens"]), *cells, faster, f"{rate(rows)} |"])


def rate(rows: dict[str, Any]) -> str:
    """Requests in a second where the next one waits on the stream, of the graph, else of the plain engine."""
    row = rows.get("engine-graph", rows.get("engine"))
    if row is None:
        return "-"
    seconds = sorted(row["parts"]["back to back"])
    return f"{1 / seconds[len(seconds) // 2]:,.0f}"


if __name__ == "__main__":
    print("\n".join(lines([Path(name) for name in sys.argv[1:]])))
