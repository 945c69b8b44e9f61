"""Builds the CUDA kernels for the device that the host plays (plugins/cuda_on_host), and runs it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from ctypes import c_int32, c_uint32
from pathlib import Path

import pytest
from native.cuda_abi import ROOT, Device

SOURCES, BUILD = ROOT / "plugins" / "cuda_on_host", ROOT / "build" / "cuda-on-host"
TOOLS = ("cmake", "ninja", "c++")
HEADERS = [Path(path) / "include" for path in (os.environ.get("CUDA_HOME", "/usr/local/cuda"), "/usr/local", "/usr")]


def built() -> Device:
    """All kernels; what did not change since the last build is not built again."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking or not any((path / "cuda_runtime_api.h").is_file() for path in HEADERS):
        pytest.skip(f"needs {', '.join(TOOLS)} and CUDA's headers (CUDA_HOME/include/cuda_runtime_api.h)")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:  # tests have several workers
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["cmake", "-S", SOURCES, "-B", BUILD, "-G", "Ninja"], ["cmake", "--build", BUILD]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    made = Device.load(BUILD / "liblat_cuda_on_host.so", "cpu")
    made.library.lat_on_host.argtypes = (c_int32, c_uint32)
    return made


def play(device: Device, late_copies: int, seed: int = 1) -> None:
    """How the device goes on: the order of threads, and whether copies are done at once or as late as may be."""
    device.library.lat_on_host(late_copies, seed)
