"""The kernels' plain C ABI through ctypes: what plugins/common/kernel_abi.h and each op's kernel.h declare."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

ABI_VERSION = 1
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
OK, BAD_ARGUMENT, NO_MEMORY = range(3)


class Status(ctypes.Structure):
    _fields_ = (("code", c_int32), ("message", c_char * 252))


Task = CFUNCTYPE(None, c_void_p, c_int64)
Run = CFUNCTYPE(None, c_void_p, c_int64, Task, c_void_p)


class Parallel(ctypes.Structure):
    _fields_ = (("run", Run), ("pool", c_void_p), ("threads", c_int32))


class Rows(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("row_stride", c_int64))

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Rows:
        return cls(tensor.data_ptr(), tensor.stride(0), tensor.stride(1))


SIZES = tuple((name, c_int64) for name in ("batch", "tokens", "width", "num_heads"))
INPUTS = tuple((name, Rows) for name in ("query", "key", "value", "output"))


class BandedWindowAttention(ctypes.Structure):
    _fields_ = (
        *SIZES,
        ("window", c_int64),
        ("scale", c_float),
        ("dtype", c_int32),
        *INPUTS,
        ("attention_mask", c_void_p),
    )


class GlobalTokenAttention(ctypes.Structure):
    _fields_ = (
        *SIZES,
        ("scale", c_float),
        ("dtype", c_int32),
        ("form", c_int32),
        ("hidden_states", Rows),
        ("output", Rows),
        ("attention_mask", c_void_p),
        *((name, c_void_p) for name in ("query_weight", "query_bias", "key_weight", "value_weight", "value_bias")),
    )


class NystromAttention(ctypes.Structure):
    _fields_ = (
        *SIZES,
        ("num_landmarks", c_int64),
        ("taps", c_int64),
        ("dtype", c_int32),
        ("per_head_init", c_int32),
        *INPUTS,
        ("attention_mask", c_void_p),
        ("conv_weight", c_void_p),
    )


class LshCumulation(ctypes.Structure):
    _fields_ = (
        *SIZES,
        ("num_hash", c_int64),
        ("hash_code_len", c_int64),
        ("dtype", c_int32),
        *INPUTS,
        ("attention_mask", c_void_p),
        ("projection", c_void_p),
    )


class BernoulliExpectation(ctypes.Structure):
    _fields_ = (*SIZES, ("hash_code_len", c_int64), ("dtype", c_int32), *INPUTS, ("attention_mask", c_void_p))


ENTRIES = {
    BandedWindowAttention: "lat_banded_window_attention_cpu",
    GlobalTokenAttention: "lat_global_token_attention_cpu",
    NystromAttention: "lat_nystrom_attention_cpu",
    LshCumulation: "lat_lsh_cumulation_cpu",
    BernoulliExpectation: "lat_bernoulli_expectation_cpu",
}


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
