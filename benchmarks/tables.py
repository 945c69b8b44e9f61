"""The tables of measured figures, made from benchmarks/results.

python benchmarks/tables.py            prints them
python benchmarks/tables.py --write    puts them into README.md and docs/performance.md, between their marks
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
MODELS = {
    "longformer": "Longformer, window 512, no global",
    "longformer-one-global": "Longformer, window 512, one global",
    "nystromformer-landmarks": "Nystroemformer, 64 landmarks",
    "nystromformer-exact": "Nystroemformer, exact",
    "yoso-expectation": "YOSO, expectation",
    "yoso-lsh": "YOSO, 64 hashes of 9 bits",
}
PACKAGES = ("onnxruntime", "torch", "transformers")
SUBJECTS = ("pytorch", "pytorch-compile", "onnx", "ort")
MODEL_HEAD = (
    "model",
    "N",
    "PyTorch",
    "torch.compile",
    "function bodies",
    "native ops",
    "of it attention",
    "against the fastest PyTorch",
    "against the floor",
    "above weights",
)
LONGEST_HEAD = tuple(word for word in MODEL_HEAD if word not in ("N", "of it attention"))
OP_HEAD = ("op", "N", "native", "function body", "PyTorch reference", "native over its floor")


def model_rows() -> Iterator[tuple[str, ...]]:
    """Of every model and length: seconds, ratios, memory."""
    for name, title in MODELS.items():
        for point in _json(f"bench_{name}")["points"]:
            rows = {row["subject"]: row for row in point["rows"]}
            ort = rows["ort"]
            compared = point["baseline"] in ("pytorch", "pytorch-compile")
            ratio = ort["faster_than_baseline"]
            spread = f"{ratio['median']:.2f} x ({ratio['low']:.2f} to {ratio['high']:.2f})"
            yield (
                title,
                str(point["tokens"]),
                *(_seconds(rows.get(subject)) for subject in SUBJECTS),
                _attention(ort["ops"]),
                spread if compared else "-",
                f"{ort['over_floor']:.2f} x",
                f"{ort['above_weights_bytes'] / 1e6:.0f} MB",
            )


def longest_rows() -> Iterator[tuple[str, ...]]:
    """Of every model at the greatest length that was measured, without what the attention takes of it."""
    rows = list(model_rows())
    most = max(rows, key=lambda row: int(row[1]))[1]
    kept = [place for place, word in enumerate(MODEL_HEAD) if word in LONGEST_HEAD]
    yield from (tuple(row[place] for place in kept) for row in rows if row[1] == most)


def op_rows() -> Iterator[tuple[str, ...]]:
    """Of every op and length: milliseconds of one call, and over its operations at the matrix product's rate."""
    for row in _json("native_ops")["rows"]:
        median = row["median_ms"]
        forms = (_milliseconds(median.get(form)) for form in ("native", "body", "PyTorch reference"))
        yield row["op"], str(row["tokens"]), *forms, f"{row['native_over_floor']:.2f} x"


@dataclass(frozen=True)
class Table:
    """
    Attributes:
        files: the results that its rows are from.
    """

    head: tuple[str, ...]
    rows: Callable[[], Iterator[tuple[str, ...]]]
    files: tuple[str, ...]


OF_MODELS = tuple(f"bench_{name}" for name in MODELS)
TABLES = {
    "full-size models": Table(MODEL_HEAD, model_rows, OF_MODELS),
    "full-size models at the longest": Table(LONGEST_HEAD, longest_rows, OF_MODELS),
    "ops": Table(OP_HEAD, op_rows, ("native_ops",)),
}


def block(name: str) -> str:
    """A table in Markdown, and what it was measured on."""
    table = TABLES[name]
    lines = [table.head, ("---",) * len(table.head), *table.rows()]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    measured = "; ".join(dict.fromkeys(map(_measured, table.files)))
    return f"{text}\n\nMeasured on: {measured}."


def with_tables(text: str) -> str:
    """`text` with every table that it has marks of made anew."""
    for name in TABLES:
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        if begin not in text:
            continue
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block(name)}\n{end}{rest.split(end)[1]}"
    return text


def _measured(name: str) -> str:
    """What a result was measured on, in a line."""
    found = _json(name)
    versions = ", ".join(
        f"{package} {found['versions'][package]}" for package in ("onnxruntime", "torch", "transformers")
    )
    return (
        f"{found['machine']['processor']} ({found['instruction_set']}), {found['machine']['cores']} cores, {versions}, "
        f"commit {found['commit'][:7]}"
    )


def _json(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _seconds(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return "does not run" if row["error"] else f"{row['latency']['median']:.2f} s"


def _attention(ops: list[dict[str, Any]]) -> str:
    """Time and share of each of our ops in the further run that has the profile."""
    ours = ((op["op"].removeprefix("lat::"), op) for op in ops if op["op"].startswith("lat::"))
    return ", ".join(f"{name} {op['ms']:.0f} ms, {op['share']:.1%}" for name, op in ours)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        for page in PAGES:
            page.write_text(with_tables(page.read_text()))
    else:
        for name in TABLES:
            print(block(name), "\n")


if __name__ == "__main__":
    main()
