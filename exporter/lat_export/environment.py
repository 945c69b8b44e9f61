"""The machine and the packages that a result hangs on."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from lat_export import __version__

PACKAGES = (
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "numpy",
    "safetensors",
)
# Of a checkout; anywhere else it has no .git.
ROOT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Version by name of every package in `PACKAGES` that is installed; none of them is imported."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """Machine, system and versions, as text by name."""
    return {
        "lat-export": __version__,
        "python": platform.python_version(),
        **versions(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": str(os.cpu_count()),
    }


def processor() -> str:
    """Its name on Linux; elsewhere what the platform module knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def gpu_count() -> int:
    """NVIDIA GPUs that the driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def provenance() -> dict[str, Any]:
    """Machine, versions and commit, for the head of a file of figures; the commit is None outside of a checkout."""
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), "lat-export": __version__, **versions()},
        "commit": _commit(),
    }


def _commit() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return _git("rev-parse", "HEAD") + (" with changes" if changed else "") or None


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.strip()
