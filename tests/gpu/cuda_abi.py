"""The CUDA kernels' C ABI through ctypes, with a workspace and outputs that start as garbage between canaries.

Nothing but torch is needed: the machine with the GPU has no lat-export installed (PYTHONPATH=exporter:tests does).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, byref, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from native.c_abi import ENTRIES, Rows, Status

ROOT = Path(__file__).resolve().parents[2]
OK, BAD_ARGUMENT, NO_MEMORY, UNSUPPORTED, DEVICE_ERROR = range(5)
LIBRARY_VARIABLE = "LAT_CUDA_LIBRARY"
GUARD_BYTES = 1024


def library_path() -> Path | None:
    named = os.environ.get(LIBRARY_VARIABLE)
    places = [Path(named)] if named else [ROOT / "build" / name / "liblat_cuda.so" for name in ("cuda", "plugins")]
    return next((place for place in places if place.is_file()), None)


def load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for entry in ENTRIES.values():
        name = entry.replace("_cpu", "_cuda")
        if hasattr(library, name):
            getattr(library, name).argtypes = (c_void_p, c_void_p, c_void_p, POINTER(Status))
            getattr(library, name).restype = None
            getattr(library, name + "_workspace").argtypes = (c_void_p, POINTER(Status))
            getattr(library, name + "_workspace").restype = c_int64
    return library


class Guarded:
    """Bytes on the device between canaries; `poison` fills them: 0xFF is NaN in every element type."""

    def __init__(self, size: int, poison: int = 0xFF, offset: int = 0) -> None:
        self._size, self._first = size, GUARD_BYTES + offset
        self._bytes = torch.full((size + 2 * GUARD_BYTES + offset,), poison, dtype=torch.uint8, device="cuda")
        self._poison = poison

    @property
    def data(self) -> torch.Tensor:
        return self._bytes[self._first : self._first + self._size]

    def check(self) -> None:
        assert (self._bytes[: self._first] == self._poison).all(), "written before the memory given"
        assert (self._bytes[self._first + self._size :] == self._poison).all(), "written behind the memory given"


def output_like(shape: torch.Size, dtype: torch.dtype, offset: int = 0) -> tuple[Guarded, torch.Tensor]:
    guarded = Guarded(shape.numel() * dtype.itemsize, offset=offset)
    return guarded, guarded.data.view(dtype).view(shape)


def workspace_bytes(library: ctypes.CDLL, arguments: ctypes.Structure) -> int:
    status = Status(-1, b"untouched")
    name = ENTRIES[type(arguments)].replace("_cpu", "_cuda_workspace")
    count: int = getattr(library, name)(byref(arguments), byref(status))
    assert (status.code == OK) == (count >= 0), status.message.decode()
    return count


def enqueue(library: ctypes.CDLL, arguments: ctypes.Structure, workspace: int) -> tuple[int, str]:
    """On torch's current stream; the status' code and message."""
    status = Status(-1, b"untouched")
    stream = torch.cuda.current_stream().cuda_stream
    name = ENTRIES[type(arguments)].replace("_cpu", "_cuda")
    getattr(library, name)(byref(arguments), workspace, stream, byref(status))
    return status.code, status.message.decode()


def run(library: ctypes.CDLL, arguments: ctypes.Structure, shape: torch.Size, dtype: torch.dtype, **how: Any) -> Any:
    """The output of one call into poisoned memory; `poison` of the workspace and `offset` of the output in bytes."""
    guarded, output = output_like(shape, dtype, how.get("offset", 0))
    workspace = Guarded(workspace_bytes(library, arguments), how.get("poison", 0xFF))
    arguments.output = Rows.of(output)
    code, message = enqueue(library, arguments, workspace.data.data_ptr())
    assert code == OK, message
    torch.cuda.synchronize()
    guarded.check()
    workspace.check()
    return output
