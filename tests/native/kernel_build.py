"""The kernels of one op, each instruction set, called through ctypes."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from lat_export import native

ARCHS = ("neon",) if platform.machine() == "aarch64" else ("scalar", "avx2", "avx512")
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
OK, BAD_ARGUMENT, NO_MEMORY = range(3)


class Status(ctypes.Structure):
    _fields_ = (("code", ctypes.c_int32), ("message", ctypes.c_char * 252))


TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


class Parallel(ctypes.Structure):
    _fields_ = (("run", RUN), ("pool", ctypes.c_void_p), ("threads", ctypes.c_int32))


@contextmanager
def threads(count: int) -> Iterator[Parallel]:
    """A pool that runs a call's tasks on `count` threads at once, last task first."""
    with ThreadPoolExecutor(count) as pool:

        def run(_pool: int, tasks: int, task: int, context: int) -> None:
            call = TASK(task)
            list(pool.map(lambda index: call(context, index), reversed(range(tasks))))

        yield Parallel(RUN(run), None, count)


def processor_has() -> str:
    """The best instruction set of this processor, as the kernels themselves see it (see `Kernel.arch`)."""
    if platform.machine() == "aarch64":
        return "neon"
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
    if {"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "f16c"} <= flags:
        return "avx512"
    return "avx2" if {"avx2", "fma", "f16c"} <= flags else "scalar"


def archs() -> list[str]:
    """Those that this processor can run."""
    return list(ARCHS[: ARCHS.index(processor_has()) + 1])


def library() -> Path:
    """The kernels as `lat-export plugins build` compiled them; LAT_EXPORT_PLUGINS names another build."""
    found = native.plugins()
    if found is None:
        pytest.skip("the plugins are not built: lat-export plugins build")
    return found.folder / native.KERNELS_LIBRARY


class Kernel:
    """One op's C entry, in a copy of the library that has chosen the instruction set `arch` for good."""

    def __init__(self, op: str, folder: Path, arch: str) -> None:
        own = folder / f"{op}.{arch}.so"  # another path: another copy, which chooses anew
        shutil.copyfile(library(), own)
        loaded = ctypes.CDLL(str(own))
        self._entry: Callable[..., None] = getattr(loaded, f"lat_{op}_cpu")
        self._entry.restype = None
        name = getattr(loaded, f"lat_{op}_cpu_arch")
        name.restype = ctypes.c_char_p
        before = os.environ.get("LAT_CPU_ARCH")
        os.environ["LAT_CPU_ARCH"] = arch
        try:
            self.arch = name().decode()
        finally:
            os.environ.pop("LAT_CPU_ARCH")
            if before is not None:
                os.environ["LAT_CPU_ARCH"] = before

    def __call__(self, arguments: Any, parallel: Parallel | None = None) -> Status:
        status = Status(99, b"not written")
        self._entry(
            None if arguments is None else ctypes.byref(arguments),
            None if parallel is None else ctypes.byref(parallel),
            ctypes.byref(status),
        )
        return status


def pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


CANARY_BYTES = 256


class Guarded:
    """An output between canaries; starts as garbage that no kernel writes."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        count = torch.Size(shape).numel() * dtype.itemsize
        self._bytes = torch.full((count + 2 * CANARY_BYTES,), 0xAB, dtype=torch.uint8)
        self.tensor = self._bytes[CANARY_BYTES : CANARY_BYTES + count].view(dtype).view(shape)

    def check(self) -> None:
        assert (self._bytes[:CANARY_BYTES] == 0xAB).all(), "written before the output"
        assert (self._bytes[-CANARY_BYTES:] == 0xAB).all(), "written behind the output"

    def untouched(self) -> bool:
        return bool((self._bytes == 0xAB).all())
