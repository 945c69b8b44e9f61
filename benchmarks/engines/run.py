"""Runs the engines of all golden models against their golden tensors on a machine with a GPU, and times some.

    make gpu-engines                  or: PYTHONPATH=exporter python3 benchmarks/engines/run.py --out $OUT

What make gpu-engines-carry prepared is unpacked first. Every engine runs in a process of its own, twice: as
`lat-export validate` runs it, through Polygraphy, and on a CUDA stream, as `lat-export bench` does. engines.json says
of each: passed or failed, with the worst figure, or refused, in the library's own words; it is written anew after each,
so what a time limit leaves is whole. Where the first engine is refused, it is built again on the spot, for the GPU at
hand; if that one runs, so are the others.

Never run on a GPU so far. The machine needs PyTorch and what lat-export depends on, but not TensorRT-RTX and
Polygraphy, which are carried.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pieces import join, keep

ROOT = Path(__file__).resolve().parents[2]
CARRIED = ROOT / "build" / "gpu-engines"
HERE = Path(tempfile.gettempdir()) / "lat-gpu-engines"  # it outlives a call
LONGEST_ENGINE_S = 120
# How an engine comes to be on the machine: carried, or built there, for the library's own choice of GPUs or its own.
CARRIED_ENGINE, BUILT_HERE, BUILT_FOR_HERE = "carried", "built on the GPU machine", "built there for its own GPU"
ENGINES = (CARRIED_ENGINE, BUILT_HERE, BUILT_FOR_HERE)
PASSED, FAILED, REFUSED, CRASHED = "passed", "failed", "refused", "crashed"
# How it was run there.
VALIDATE, STREAM = "as lat-export validate runs it", "on a CUDA stream"
FAMILIES = ("longformer", "nystromformer", "yoso")
ENGINE_SUBJECTS, PYTORCH_SUBJECTS = ("engine", "engine-graph"), ("pytorch-gpu", "pytorch-gpu-compile")


class Record:
    """engines.json, whole after every step."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.data: dict[str, Any] = {}

    def write(self, **parts: Any) -> None:
        self.data |= parts
        half = self._file.with_suffix(".half")
        half.write_text(json.dumps(self.data, indent=1) + "\n")
        half.replace(self._file)


def surroundings() -> dict[str, Any]:
    """Machine, versions, commit and GPU."""
    from lat_export.environment import gpu_count, provenance

    found = provenance()
    gpu: dict[str, Any] = {"count": gpu_count()}
    if gpu["count"]:
        from lat_export.native.cuda_driver import CudaDriver

        driver = CudaDriver()
        gpu |= {"name": driver.device_name, "compute_capability": driver.compute_capability}
        asked = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        if shutil.which(asked[0]):
            gpu["driver, memory"] = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return {
        **found,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "gpu": gpu,
    }


# One engine, in a process of its own.


def check_engine(bundle: Path, engine: str) -> dict[str, Any]:
    """A bundle's engine against its golden tensors, in both ways."""
    from lat_export.native.cuda_driver import CudaDriver
    from lat_export.scratch import scratch_folder
    from lat_export.stages.bundle import read_bundle
    from lat_export.targets import Subject, target_of
    from lat_export.targets.tensorrt_run import demand_profile
    from lat_export.targets.tensorrt_stream import EngineOnStream
    from lat_export.validation.check import Judge
    from lat_export.validation.golden import Golden

    opened = read_bundle(bundle)
    target: Any = target_of(opened.manifest)
    manifest, signature, plan = opened.manifest, opened.signature, opened.plan
    judge = Judge(target=target.name, precision=manifest["precision"], ops=tuple(manifest["lat_nodes"]))

    @contextmanager
    def on_stream() -> Iterator[Any]:
        running = EngineOnStream(file, target.module, target.title, target.loaded_for(plan), CudaDriver())
        yield lambda inputs: running.answer(inputs, demand_profile(signature, plan, inputs))

    with scratch_folder() as scratch:
        if engine == CARRIED_ENGINE:
            file = bundle / target.engine_file
        else:
            file = built_again(opened, target, engine, scratch)
            bundle = Path(shutil.copytree(bundle, scratch / "bundle"))
            file = Path(shutil.copyfile(file, bundle / target.engine_file))
        golden = Golden(bundle)
        *_, validated = target.subjects(bundle, signature, plan, scratch)
        found = {"file_bytes": file.stat().st_size}
        found[VALIDATE] = verdict_of(validated, golden, judge)
        found[STREAM] = verdict_of(Subject(f"{file.name} on a stream", on_stream, plan), golden, judge)
        return {"words": library_words(target, file, plan), **found}


def built_again(opened: Any, target: Any, engine: str, scratch: Path) -> Path:
    from lat_export.targets import PORTABLE_MODEL

    capabilities = ("current",) if engine == BUILT_FOR_HERE else ()
    plan = replace(opened.plan, options=replace(opened.plan.options, compute_capabilities=capabilities))
    lowered = target.lower(opened.folder / PORTABLE_MODEL, scratch, plan)
    target.build_engine(lowered, scratch / target.engine_file, opened.signature.inputs, plan)
    return Path(scratch / target.engine_file)


def verdict_of(subject: Any, golden: Any, judge: Any) -> dict[str, Any]:
    from lat_export.errors import LatExportError
    from lat_export.validation.check import check_subject

    try:
        report = check_subject(subject, golden, golden.signature, judge)
    except LatExportError as error:
        return {"verdict": REFUSED, "why": str(error)}
    if report.worst is None:
        return {"verdict": REFUSED, "why": report.remark}
    worst = report.worst
    figures = {
        name: getattr(worst, name) for name in ("case", "output", "relative_l2", "tolerance", "max_abs", "remark")
    }
    counted = {"comparisons": len(report.rows), "left_out": report.left_out, "seconds": round(report.seconds, 3)}
    return {"verdict": report.verdict, "worst": figures, **counted}


def library_words(target: Any, file: Path, plan: Any) -> list[str]:
    """What the library itself says to this engine on this machine; nothing where it opens it."""
    from lat_export.targets.tensorrt_build import logger
    from lat_export.targets.tensorrt_open import open_runtime

    library = importlib.import_module(target.module)
    log = logger(library)
    try:
        opened = open_runtime(library, target.loaded_for(plan), log)
        return [] if opened.engine(file) is not None else [*opened.why, *log.warnings]
    except TypeError as error:  # pybind11's, where the library makes no runtime
        return [*log.errors, *log.warnings, str(error)]


# All of them.


def child(arguments: list[str], longest_s: float) -> dict[str, Any]:
    """The answer of this file for one engine; the library may abort, and hang."""
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        command = [sys.executable, str(Path(__file__)), *arguments, "--answer", str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=longest_s)
        except subprocess.TimeoutExpired:
            return {"verdict": CRASHED, "why": f"not done within {longest_s:.0f} s"}
        if answer.is_file():
            found: dict[str, Any] = json.loads(answer.read_text())
            return found
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        return {"verdict": CRASHED, "why": f"{how}: {done.stderr.strip()[-1500:]}"}


def verdict(found: dict[str, Any]) -> str:
    """Passed only where it did so both ways."""
    if "verdict" in found:
        return str(found["verdict"])
    both = [found[way]["verdict"] for way in (VALIDATE, STREAM)]
    return next(one for one in (FAILED, REFUSED, PASSED) if one in both)


def check_all(bundles: list[Path], record: Record, until: float) -> str | None:
    """Check each; how the engines that ran came to be, None where none ran."""
    rows: list[dict[str, Any]] = []
    works: str | None = None
    for index, bundle in enumerate(bundles):
        # Of the first one every way is tried until one runs; the others take that, or show that they are refused too.
        ways = [works] if works else list(ENGINES) if index == 0 else [CARRIED_ENGINE]
        for way in ways:
            left = until - time.monotonic()
            if left < 1:
                rows.append({"bundle": bundle.name, "engine": way, "verdict": "not run", "why": "no time was left"})
                break
            found = child(["--one", str(bundle), "--engine", way], min(LONGEST_ENGINE_S, left))
            rows.append({"bundle": bundle.name, "engine": way, **found, "verdict": verdict(found)})
            record.write(engines=rows)
            print(f"{bundle.name}, {way}: {rows[-1]['verdict']}", flush=True)
            if found.get(STREAM, {}).get("verdict") in (PASSED, FAILED):
                works = way
                break
    record.write(engines=rows)
    return works


def bench(bundle: Path, checkpoint: Path, out: Path, until: float, *options: str) -> dict[str, Any]:
    """`lat-export bench` on the GPU; its figures go to a file of their own."""
    left = until - time.monotonic()
    if left < 30:
        return {"bundle": bundle.name, "why": "no time was left"}
    file = out / f"bench_gpu_{bundle.name}.json"
    command = [sys.executable, "-m", "lat_export", "bench", str(bundle), "--checkpoint", str(checkpoint)]
    command += [*options, "--no-profile", "--json", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left)
    except subprocess.TimeoutExpired:
        return {"bundle": bundle.name, "why": f"not done within {left:.0f} s"}
    print(done.stdout, flush=True)
    return {"bundle": bundle.name, "exit_code": done.returncode, "file": file.name, "stderr": done.stderr[-2000:]}


def subjects(*, compiled: bool) -> list[str]:
    """Those to measure; PyTorch's where it has CUDA, so that the engines are measured without it too."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    has_cuda = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    names = [*ENGINE_SUBJECTS, *PYTORCH_SUBJECTS[: (2 if compiled else 1) if has_cuda else 0]]
    return [word for name in names for word in ("--subject", name)]


def bench_goldens(bundles: list[Path], out: Path, until: float) -> Iterator[dict[str, Any]]:
    """One of each family: small models, whose time is that of launches."""
    for family in FAMILIES:
        for bundle in [bundle for bundle in bundles if bundle.name == f"{family}-feature-extraction"]:
            checkpoint = ROOT / "golden" / family / "feature-extraction" / "checkpoint"
            yield bench(bundle, checkpoint, out, until, *subjects(compiled=False))


def bench_full_size(families: Sequence[str], works: str, out: Path, until: float) -> Iterator[dict[str, Any]]:
    """12 layers of 768 in float16 at N = 4096, B = 1 and 8, engines built on the spot."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from export_full_size import make_checkpoint

    for family in families:
        checkpoint, bundle = HERE / f"checkpoint-{family}", HERE / f"{family}-fp16"
        shutil.rmtree(checkpoint, ignore_errors=True)
        make_checkpoint(family, checkpoint, "AutoModel")
        command = [
            sys.executable,
            "-m",
            "lat_export",
            "model",
            str(checkpoint),
            "--to",
            "trt-rtx",
            "--out",
            str(bundle),
        ]
        command += ["--precision", "fp16", "--seq", "4096", "--batch", "1:1:8", "--no-validate", "--force"]
        command += ["--compute-capability", "current"] if works == BUILT_FOR_HERE else []
        left = until - time.monotonic()
        if left < 60:
            yield {"bundle": bundle.name, "why": "no time was left"}
            return
        try:
            made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left)
        except subprocess.TimeoutExpired:
            yield {"bundle": bundle.name, "why": f"not exported within {left:.0f} s"}
            return
        if made.returncode:
            yield {"bundle": bundle.name, "exit_code": made.returncode, "stderr": made.stderr[-2000:]}
            continue
        sizes = ["--tokens", "4096", "--batch", "1,8", "--repeat", "10"]
        yield bench(bundle, checkpoint, out, until, *sizes, *subjects(compiled=True))


def run(arguments: argparse.Namespace) -> int:
    until = time.monotonic() + arguments.seconds
    arguments.out.mkdir(parents=True, exist_ok=True)
    keep([arguments.carried], HERE / "kept")  # for a call after this one
    shutil.rmtree(HERE / "whole", ignore_errors=True)
    whole = join([HERE / "kept"], HERE / "whole")
    paths = [str(ROOT / "exporter"), str(whole / "site"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.path[:0] = paths[:2]
    about = json.loads((whole / "about.json").read_text())
    record = Record(arguments.out / "engines.json")
    found = surroundings()
    found["commit"] = os.environ.get("LAT_COMMIT") or found["commit"] or about.get("commit")
    record.write(**found, carried=about)
    bundles = sorted(path for path in (whole / "bundles").iterdir() if path.is_dir())
    works = check_all(bundles[:1] if arguments.first_only else bundles, record, until)
    counts = [row["verdict"] for row in record.data["engines"]]
    record.write(engines_that_run=works, verdicts={name: counts.count(name) for name in sorted(set(counts))})
    done: list[dict[str, Any]] = []
    if works is not None and not arguments.no_bench:
        with_goldens = works == CARRIED_ENGINE and not arguments.first_only
        of_goldens = bench_goldens(bundles, arguments.out, until) if with_goldens else ()
        families = () if arguments.no_full_size else arguments.full_size or FAMILIES
        of_full_size = bench_full_size(families, works, arguments.out, until)
        for figures in (of_goldens, of_full_size):
            for one in figures:
                done.append(one)
                record.write(bench=done)
    print(json.dumps(record.data["verdicts"]))
    return 0 if set(counts) == {PASSED} else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carried", type=Path, default=CARRIED, help="what make gpu-engines-carry wrote")
    parser.add_argument("--keep", action="store_true", help="only keep the pieces that are here for the next call")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="default $OUT")
    parser.add_argument("--seconds", type=float, default=540, help="in all; what is left out then is named")
    parser.add_argument("--no-bench", action="store_true", help="the golden tensors alone")
    parser.add_argument("--first-only", action="store_true", help="only the first golden model, before full-size ones")
    parser.add_argument("--full-size", action="append", choices=FAMILIES, help="may be repeated; default all")
    parser.add_argument("--no-full-size", action="store_true", help="no figures of full-size models")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--engine", choices=ENGINES, default=CARRIED_ENGINE, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.keep:
        keep([arguments.carried], HERE / "kept")
        return 0
    if arguments.one is None:
        return run(arguments)
    from lat_export.errors import LatExportError

    try:
        found = check_engine(arguments.one, arguments.engine)
    except LatExportError as error:
        found = {"verdict": REFUSED, "why": str(error)}
    arguments.answer.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
