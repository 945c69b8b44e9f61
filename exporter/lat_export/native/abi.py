"""The C ABI that every kernel shares, as plugins/common/kernel_abi.h declares it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_float, c_int32, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

from lat_export.native.library import ABI_VERSION

if TYPE_CHECKING:
    import torch

__all__ = [
    "ABI_VERSION",
    "BAD_ARGUMENT",
    "DEVICE_ERROR",
    "DTYPES",
    "NO_MEMORY",
    "OK",
    "UNSUPPORTED",
    "Parallel",
    "Rows",
    "Run",
    "Status",
    "Structure",
    "Task",
    "declare",
    "fields",
]

# lat_dtype, by torch's names.
DTYPES = {"float32": 0, "float16": 1, "bfloat16": 2}
# lat_code
OK, BAD_ARGUMENT, NO_MEMORY, UNSUPPORTED, DEVICE_ERROR = range(5)


class Status(Structure):
    """lat_status"""

    _fields_ = (("code", c_int32), ("message", c_char * 252))


# lat_task, and the function of lat_parallel that runs tasks. Calling a task lets go of the interpreter.
Task = CFUNCTYPE(None, c_void_p, c_int64)
Run = CFUNCTYPE(None, c_void_p, c_int64, Task, c_void_p)


class Parallel(Structure):
    """lat_parallel"""

    _fields_ = (("run", Run), ("pool", c_void_p), ("threads", c_int32))


class Rows(Structure):
    """lat_rows: activations [B, N, E], the numbers of a row side by side."""

    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("row_stride", c_int64))

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Rows:
        """Rows of (B, N, E), which `fits`."""
        rows, width = tensor.shape[1:]
        # Of an axis of one, torch's stride may be anything; the kernels take it at its word.
        row_stride = tensor.stride(1) if rows > 1 else width
        batch_stride = tensor.stride(0) if tensor.shape[0] > 1 else rows * row_stride
        return cls(tensor.data_ptr(), batch_stride, row_stride)

    @staticmethod
    def fits(tensor: torch.Tensor) -> bool:
        """Whether (B, N, E) lies in memory as rows that do not overlap; another layout needs a copy."""
        rows, width = tensor.shape[1:]
        return (width == 1 or tensor.stride(2) == 1) and (rows == 1 or tensor.stride(1) >= width)


def fields(
    sizes: str, rows: str, pointers: str, *, scale: bool = False, integers: str = ""
) -> Iterator[tuple[str, type[Any]]]:
    """The members of a `lat_<op>_args`: names separated by blanks, in the order that all ops have.

    Args:
        sizes: of the op, after `batch tokens width num_heads`.
        rows: the [B, N, E] inputs; `output` follows.
        pointers: after `attention_mask`.
        scale: whether the op has one.
        integers: 32-bit attributes after `dtype`.
    """
    yield from ((name, c_int64) for name in f"batch tokens width num_heads {sizes}".split())
    if scale:
        yield "scale", c_float
    yield from ((name, c_int32) for name in f"dtype {integers}".split())
    yield from ((name, Rows) for name in f"{rows} output".split())
    yield from ((name, c_void_p) for name in f"attention_mask {pointers}".split())


def declare(entry: Any, arguments: type[Structure]) -> Any:
    """A C entry with its types: `entry(args*, parallel* or None, status*)`."""
    entry.argtypes = (POINTER(arguments), POINTER(Parallel), POINTER(Status))
    entry.restype = None
    return entry


def pointer_to(structure: Structure | None) -> Any:
    """Null for None."""
    return None if structure is None else ctypes.byref(structure)
