"""The kernels' plain C ABI through ctypes: what plugins/common/kernel_abi.h and each op's kernel.h declare."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

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


class BandedWindowAttention(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "width", "num_heads", "window")),
        ("scale", c_float),
        ("dtype", c_int32),
        *((name, Rows) for name in ("query", "key", "value", "output")),
        ("attention_mask", c_void_p),
    )


class GlobalTokenAttention(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "width", "num_heads")),
        ("scale", c_float),
        ("dtype", c_int32),
        ("form", c_int32),
        *((name, Rows) for name in ("hidden_states", "output")),
        ("attention_mask", c_void_p),
        *((name, c_void_p) for name in ("query_weight", "query_bias", "key_weight", "value_weight", "value_bias")),
    )


ENTRIES = {
    BandedWindowAttention: "lat_banded_window_attention_cpu",
    GlobalTokenAttention: "lat_global_token_attention_cpu",
}


def load(library: Path, folder: Path, arch: str | None) -> ctypes.CDLL:
    """A copy of the library, whose choice of instruction set is still to be made, and makes it."""
    copy = shutil.copy(library, folder / f"{arch or 'best'}.so")
    before = os.environ.get("LAT_CPU_ARCH")
    os.environ.pop("LAT_CPU_ARCH", None)
    if arch:
        os.environ["LAT_CPU_ARCH"] = arch
    try:
        loaded = ctypes.CDLL(str(copy))
        loaded.lat_cpu_arch_name.restype = ctypes.c_char_p
        loaded.lat_cpu_arch_name()
    finally:
        os.environ.pop("LAT_CPU_ARCH", None)
        if before is not None:
            os.environ["LAT_CPU_ARCH"] = before
    for entry in ENTRIES.values():
        getattr(loaded, entry).argtypes = (c_void_p, POINTER(Parallel), POINTER(Status))
        getattr(loaded, entry).restype = None
    return loaded


def one_by_one(order: Callable[[int], Iterable[int]] = range) -> Parallel:
    """Tasks in the caller's thread, in an order of its choice."""

    def run(_: Any, count: int, task: Any, context: Any) -> None:
        for index in order(count):
            task(context, index)

    return Parallel(Run(run), None, 1)


def on_threads(threads: int) -> Parallel:
    """Tasks on Python threads, which run at the same time: ctypes lets go of the interpreter in a call."""

    def run(_: Any, count: int, task: Any, context: Any) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda index: task(context, index), range(count)))

    return Parallel(Run(run), None, threads)


def call(library: ctypes.CDLL, arguments: ctypes.Structure, parallel: Parallel | None = None) -> tuple[int, str]:
    """The status' code and message."""
    status = Status(-1, b"untouched")
    parallel = parallel or one_by_one()
    getattr(library, ENTRIES[type(arguments)])(byref(arguments), byref(parallel), byref(status))
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
