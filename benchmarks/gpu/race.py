"""What the benchmarks of all CUDA kernels share: contenders that take turns, rates of reference, and where results go.

They need liblat_cuda.so (make gpu-library), torch and an NVIDIA GPU; nothing of lat-export has to be installed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from native.c_abi import Rows
from native.cuda_abi import Device, Guarded, library_path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, CALLS = 7, 10
SIDE = 8192  # of the matrix product that gives the rate of reference
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

Run = Callable[[], Any]


def loaded() -> Device:
    path = library_path()
    if path is None or not torch.cuda.is_available():
        sys.exit("error: no liblat_cuda.so (make gpu-library), or no NVIDIA GPU on this machine")
    return Device.load(path)


def ours(device: Device, arguments: Any, output: torch.Tensor) -> Run:
    workspace = Guarded("cuda", device.workspace_bytes(arguments))
    arguments.output = Rows.of(output)

    def run() -> torch.Tensor:
        code, message = device.enqueue(arguments, workspace.data.data_ptr())
        assert code == 0, message
        return output

    return run


def captured(run: Run) -> Run:
    """CALLS calls as one graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            run()
    return graph.replay


def in_turn(run: Run) -> Run:
    return lambda: [run() for _ in range(CALLS)]


def time_ms(run: Run) -> float:
    """Of one of CALLS calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / CALLS


def race(contenders: dict[str, Run], uncaptured: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Milliseconds of a call of each, of ROUNDS rounds in which all take turns; from CUDA graphs, but `uncaptured`."""
    ready = {}
    for name, run in contenders.items():
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        ready[name] = in_turn(run) if name in uncaptured else captured(run)
        ready[name]()
    rounds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(ROUNDS):
        for name, run in ready.items():
            rounds[name].append(time_ms(run))
    return {name: {"ms": statistics.median(ms), "rounds_ms": ms} for name, ms in rounds.items()}


def ceilings(dtype: torch.dtype) -> dict[str, float]:
    """Measured rates: of a matrix product on random numbers, and of a copy, bytes read plus written."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda").to(dtype) for _ in range(2))
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    timed = race({"product": lambda: left @ right, "copy": lambda: target.copy_(source)})
    return {
        "matmul_tflops": 2 * SIDE**3 / timed["product"]["ms"] / 1e9,
        "copy_gb_per_s": 2 * source.nbytes / timed["copy"]["ms"] / 1e6,
    }


def commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return os.environ.get("LAT_COMMIT", "unknown")
    return done.stdout.strip() or os.environ.get("LAT_COMMIT", "unknown")


def machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0)
    return {
        "gpu": gpu.name,
        "multiprocessors": gpu.multi_processor_count,
        "compute_capability": f"{gpu.major}.{gpu.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "commit": commit(),
    }


def write(name: str, results: dict[str, Any]) -> None:
    """To `gpu_<name>.json` under $OUT, or among the committed results."""
    folder = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results"))
    (folder / f"gpu_{name}.json").write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n")
