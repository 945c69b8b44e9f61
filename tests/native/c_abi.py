"""The kernels' plain C ABI, as `lat_export.native` lays it out, called with whatever a test likes."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_void_p
from pathlib import Path
from typing import Any

import torch

from lat_export.native import KERNELS
from lat_export.native.abi import ABI_VERSION, BAD_ARGUMENT, NO_MEMORY, OK, Parallel, Rows, Run, Status

__all__ = ["ABI_VERSION", "BAD_ARGUMENT", "NO_MEMORY", "OK", "Parallel", "Rows", "Status"]  # and what is below

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

BandedWindowAttention = KERNELS["BandedWindowAttention"].arguments
GlobalTokenAttention = KERNELS["GlobalTokenAttention"].arguments
NystromAttention = KERNELS["NystromAttention"].arguments
LshCumulation = KERNELS["LshCumulation"].arguments
BernoulliExpectation = KERNELS["BernoulliExpectation"].arguments
FullAttention = KERNELS["FullAttention"].arguments

ENTRIES = {kernel.arguments: kernel.entry for kernel in KERNELS.values()}


def archs() -> list[str]:
    """Instruction sets that the kernels have for this processor, the best one last."""
    if platform.machine() == "aarch64":
        return ["neon"]
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    avx2 = {"avx2", "fma", "f16c"} <= flags
    avx512 = avx2 and {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags
    return ["scalar", *["avx2"] * avx2, *["avx512"] * avx512]


def load(library: Path, folder: Path, arch: str) -> ctypes.CDLL:
    """A copy of the library, whose choice of instruction set is still to be made, and makes it."""
    copy = shutil.copy(library, folder / f"{arch}.so")
    before = os.environ.get("LAT_CPU_ARCH")
    os.environ["LAT_CPU_ARCH"] = arch
    try:
        loaded = ctypes.CDLL(str(copy))
        loaded.lat_cpu_arch_name.restype = ctypes.c_char_p
        loaded.lat_cpu_arch_name()
    finally:
        os.environ.pop("LAT_CPU_ARCH")
        if before is not None:
            os.environ["LAT_CPU_ARCH"] = before
    for entry in ENTRIES.values():
        getattr(loaded, entry).argtypes = (c_void_p, POINTER(Parallel), POINTER(Status))
        getattr(loaded, entry).restype = None
    return loaded


def one_by_one() -> Parallel:
    """The tasks of four threads in the caller's, the last one first."""

    def run(_: Any, count: int, task: Any, context: Any) -> None:
        for index in reversed(range(count)):
            task(context, index)

    return Parallel(Run(run), None, 4)


def on_threads(threads: int) -> Parallel:
    """Tasks on Python threads, last task first. They run at the same time: ctypes lets go of the interpreter."""

    def run(_: Any, count: int, task: Any, context: Any) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda index: task(context, index), reversed(range(count))))

    return Parallel(Run(run), None, threads)


def call(library: ctypes.CDLL, arguments: ctypes.Structure, parallel: Parallel | None = None) -> tuple[int, str]:
    """The status' code and message. Without `parallel` the kernel does all in this thread."""
    status = Status(-1, b"untouched")
    pool = None if parallel is None else byref(parallel)
    getattr(library, ENTRIES[type(arguments)])(byref(arguments), pool, byref(status))
    return status.code, status.message.decode()


def banded_arguments(
    tensors: tuple[torch.Tensor, ...], output: torch.Tensor, attributes: dict[str, Any]
) -> BandedWindowAttention:
    query, key, value, mask = tensors
    return BandedWindowAttention(
        *query.shape,
        attributes["num_heads"],
        attributes["window"],
        attributes["scale"],
        DTYPES[query.dtype],
        attributes.get("allow_tf32", 0),
        *(Rows.of(tensor) for tensor in (query, key, value, output)),
        mask.data_ptr(),
    )


def global_arguments(
    tensors: tuple[torch.Tensor, ...], output: torch.Tensor, attributes: dict[str, Any], form: int = 0
) -> GlobalTokenAttention:
    hidden, mask, *weights = tensors
    return GlobalTokenAttention(
        *hidden.shape,
        attributes["num_heads"],
        attributes["scale"],
        DTYPES[hidden.dtype],
        form,
        Rows.of(hidden),
        Rows.of(output),
        mask.data_ptr(),
        *(weight.data_ptr() for weight in weights),
    )


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
