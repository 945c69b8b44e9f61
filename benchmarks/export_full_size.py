"""Exports a full-size checkpoint (12 layers, hidden 768, random weights) and measures what that takes.

    python benchmarks/export_full_size.py --family longformer --to onnx --to trt-rtx

Wall time and peak resident memory are those of the `lat-export model` process and its children, validation included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from lat_export.environment import provenance

# Base size with positions for 4096 tokens; Longformer with its usual window, Nystroemformer with landmarks.
CONFIGS: dict[str, dict[str, Any]] = {
    "longformer": {
        "attention_window": 512,
        "max_position_embeddings": 4098,
        "vocab_size": 50265,
        "pad_token_id": 1,
        "type_vocab_size": 1,
    },
    "yoso": {"max_position_embeddings": 4096, "vocab_size": 50265, "pad_token_id": 1},
    "nystromformer": {
        "max_position_embeddings": 4096,
        "segment_means_seq_len": 4096,
        "num_landmarks": 64,
        "conv_kernel_size": 65,
        "vocab_size": 30000,
        "pad_token_id": 1,
    },
}
RESULTS = Path(__file__).resolve().parent / "results"


def make_checkpoint(family: str, folder: Path, head: str = "AutoModelForMaskedLM", **changes: Any) -> int:
    """Write a seeded random checkpoint; returns the bytes of its weights.

    Args:
        head: the class of transformers that makes it.
        changes: config values beside those of `CONFIGS`.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    config = transformers.AutoConfig.for_model(family, **{**sizes, **CONFIGS[family], **changes})
    getattr(transformers, head).from_config(config).save_pretrained(folder)
    return (folder / "model.safetensors").stat().st_size


def measure(command: list[str]) -> dict[str, Any]:
    """Run a command; its wall time, the peak of the resident memory of its process tree, and its exit code."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = {"bytes": 0}
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    stdout, stderr = process.communicate()
    watcher.join()
    sys.stderr.write(stderr)
    return {
        "wall_s": round(time.perf_counter() - started, 1),
        "peak_rss_bytes": peak["bytes"],
        "exit_code": process.returncode,
        "stages": [line for line in stderr.splitlines() if " done in " in line],
        "stdout": stdout,
    }


def _watch(process: subprocess.Popen[str], peak: dict[str, int]) -> None:
    while process.poll() is None:
        peak["bytes"] = max(peak["bytes"], sum(_resident(pid) for pid in _tree(process.pid)))
        time.sleep(0.05)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid] + [found for child in children for found in _tree(int(child))]


def _resident(pid: int) -> int:
    """Proportional share, so that pages that parent and child have in common count once."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(CONFIGS), default="longformer")
    parser.add_argument("--to", action="append", required=True, help="a target of lat-export; may be repeated")
    arguments = parser.parse_args()
    results: dict[str, Any] = {**provenance(), "family": arguments.family, "config": CONFIGS[arguments.family]}
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        results["weights_bytes"] = make_checkpoint(arguments.family, checkpoint)
        for target in arguments.to:
            bundle = Path(scratch) / target
            run = measure(
                [
                    sys.executable,
                    "-m",
                    "lat_export",
                    "model",
                    str(checkpoint),
                    "--to",
                    target,
                    "--out",
                    str(bundle),
                    "--json",
                ]
            )
            output = json.loads(run.pop("stdout")) if run["exit_code"] == 0 else {}
            run["files"] = {name: entry["bytes"] for name, entry in output.get("manifest", {}).get("files", {}).items()}
            run["peak_over_weights"] = round(run["peak_rss_bytes"] / results["weights_bytes"], 2)
            run["cases"] = [
                {"subject": subject["subject"], "verdict": subject["verdict"], "rows": subject["rows"]}
                for subject in output.get("report", {}).get("subjects", [])
            ]
            results[target] = run
            print(target, {key: run[key] for key in ("wall_s", "peak_rss_bytes", "peak_over_weights", "files")})
    path = RESULTS / f"export_{arguments.family}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
