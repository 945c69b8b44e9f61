"""Measures the edge runner against Python: one answer from a cold start, and run after run in one process.

    python benchmarks/edge.py
    python benchmarks/edge.py --model golden --rounds 3

The models are a full-size Longformer for text classification (12 layers, hidden 768, random weights) with the golden
checkpoint's small tokenizer, and the golden checkpoint itself, whose arithmetic takes next to nothing: what is left of
it is the programs' own. All subjects run in turn, a process each time, so that noise hits all alike; a process's files
are in the page cache. `lat-export run` also checks the digest of every file of its bundle, which the runner does not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "edge.json"
GOLDEN = ROOT / "golden" / "longformer" / "text-classification" / "checkpoint"
TEXT = "The keeper of the northern tower kept the light through the storm, until the evening came."
# Runs of each process, by tokens. A p99 needs 100 over all rounds, which the full-size model does not get.
RUNS = {"full-size": {128: 10}, "golden": {128: 100}}
ROUNDS = 3
SECONDS_BETWEEN_LOOKS = 0.005
BINARIES = ("lat_edge", "lib/liblat_runner.so", "lib/libonnxruntime.so.1", "lib/liblat_ort.so")


def checkpoint_of(model: str, folder: Path) -> Path:
    from export_full_size import make_checkpoint

    if model == "golden":
        return GOLDEN
    make_checkpoint("longformer", folder, "AutoModelForSequenceClassification", num_labels=3, sep_token_id=2)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(GOLDEN / name, folder / name)
    return folder


def timed(command: list[str]) -> dict[str, Any]:
    """Wall time and peak resident memory of one process, and what it printed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True)
        peak = 0
        # It only grows, so the last look is the peak. What wait4 tells begins with this process's own memory.
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        wall_s = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{command}: {err.read()}")
        return {"wall_s": wall_s, "peak_resident_bytes": peak, "stdout": out.read()}


def resident(process: int | str) -> int:
    """The most that was ever resident of a process since it began its program, in bytes; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def in_python(model: str, native_ops: str, tokens: int, runs: int) -> None:
    """What `lat_edge --bench` does, in Python: the child of a measurement, which imports nothing more than it needs."""
    started = time.perf_counter()
    import numpy as np
    import onnxruntime

    from lat_export.onnxruntime_options import default_options

    imported = time.perf_counter()
    options = default_options()
    if native_ops:
        options.register_custom_ops_library(native_ops)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    created = time.perf_counter()
    places = np.arange(tokens)[None]
    inputs = {
        "input_ids": 5 + places % 50,
        "attention_mask": np.ones_like(places),
        "global_attention_mask": (places == 0).astype(np.int64),
    }
    each = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        session.run(None, inputs)
        each.append((time.perf_counter() - begin) * 1e3)
    found = {"import_ms": (imported - started) * 1e3, "create_ms": (created - imported) * 1e3, "each_ms": each[1:]}
    print(json.dumps({**found, "first_run_ms": each[0], "peak_resident_bytes": resident("self")}))


def answers(bundle: Path, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One text from a cold start, over and over."""
    commands = {
        "lat_edge": [str(folder / "lat_edge"), "--text", TEXT],
        "lat-export run": [sys.executable, "-m", "lat_export", "run", str(bundle), "--text", TEXT, "--json"],
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for command in commands.values():
        timed(command)  # fills the page cache
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(timed(command))
    labels = {name: [row["label"] for row in json.loads(runs[0]["stdout"])["labels"]] for name, runs in found.items()}
    if labels["lat_edge"] != labels["lat-export run"]:
        raise SystemExit(f"the answers differ: {labels}")
    return [
        {
            "subject": name,
            "wall_s": statistics.median(run["wall_s"] for run in runs),
            "peak_resident_bytes": max(run["peak_resident_bytes"] for run in runs),
            "each_wall_s": [run["wall_s"] for run in runs],
        }
        for name, runs in found.items()
    ]


def latencies(model: Path, native_ops: str, tokens: int, runs: int, rounds: int) -> list[dict[str, Any]]:
    folder, sizes = model.parent, (str(tokens), str(runs))
    commands = {
        "lat_edge": [str(folder / "lat_edge"), "--bench", "--tokens", sizes[0], "--runs", sizes[1]],
        "onnxruntime in Python": [sys.executable, __file__, "--child", str(model), native_ops, *sizes],
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(json.loads(timed(command)["stdout"]))
    return [{"subject": name, "tokens": tokens, **pooled(processes)} for name, processes in found.items()]


def pooled(processes: list[dict[str, Any]]) -> dict[str, Any]:
    each = sorted(value for one in processes for value in one["each_ms"])

    def percentile(hundredths: int) -> float:
        return each[(len(each) * hundredths + 99) // 100 - 1]

    start = [one.get("import_ms", 0) + one["create_ms"] for one in processes]
    return {
        "runs": len(each),
        "start_ms": statistics.median(start),
        "p50_ms": percentile(50),
        "p99_ms": percentile(99) if len(each) >= 100 else None,
        "peak_resident_bytes": max(one["peak_resident_bytes"] for one in processes),
        "each_start_ms": start,
        "each_ms": [one["each_ms"] for one in processes],
    }


def prepared(model: str, work: Path) -> tuple[Path, Path]:
    """A bundle and its deployment; those of an earlier run are taken."""
    from lat_export.deploy import Serving, deploy
    from lat_export.pipeline import export
    from lat_export.types import ModelSpec

    bundle, folder = work / f"{model}-bundle", work / f"{model}-edge"
    if not bundle.is_dir():
        checkpoint = checkpoint_of(model, work / f"{model}-checkpoint")
        export(ModelSpec(str(checkpoint), "ort", bundle, validate=False))
    if not folder.is_dir():
        deploy(bundle, "edge", Serving(folder))
    return bundle, folder


def measure(model: str, rounds: int, work: Path) -> dict[str, Any]:
    bundle, folder = prepared(model, work)
    manifest = json.loads((folder / "deployment.json").read_text())
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    print(f"{model}: measuring", file=sys.stderr)
    native_ops = str(folder / "lib" / "liblat_ort.so") if manifest["native_ops"] else ""
    rows = []
    for tokens, runs in RUNS[model].items():
        rows += latencies(folder / manifest["model_file"], native_ops, tokens, runs, rounds)
    return {
        "model": model,
        "native_ops": manifest["native_ops"],
        "folder_bytes": sum(sizes.values()),
        "binaries_bytes": {name: sizes[name] for name in BINARIES if name in sizes},
        "answers": answers(bundle, folder, rounds),
        "latencies": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=sorted(RUNS), help="may be repeated  [default: both]")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--work", type=Path, help="folder of the models; what is there is taken  [default: a new one]")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        model, native_ops, tokens, runs = arguments.child
        return in_python(model, native_ops, int(tokens), int(runs))
    from lat_export.environment import provenance

    with tempfile.TemporaryDirectory() as scratch:
        load_before = os.getloadavg()
        work = arguments.work or Path(scratch)
        models = [measure(model, arguments.rounds, work) for model in arguments.model or sorted(RUNS)]
    facts = {**provenance(), "rounds": arguments.rounds, "load_average": [load_before, os.getloadavg()]}
    arguments.out.write_text(json.dumps({**facts, "models": models}, indent=1) + "\n")
    for model in models:
        for row in (*model["answers"], *model["latencies"]):
            print(model["model"], {key: value for key, value in row.items() if not key.startswith("each")})
    return None


if __name__ == "__main__":
    main()
