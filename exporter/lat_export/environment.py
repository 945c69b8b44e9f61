"""The machine and the packages that a result hangs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

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
