"""The CUDA kernels' C ABI through ctypes, with a workspace and outputs that start as garbage between canaries.

The library is liblat_cuda.so on a GPU, or the same kernels on the device that plugins/cuda_on_host plays. Nothing but
torch is needed: the machine with the GPU has no lat-export installed (PYTHONPATH=exporter:tests does).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, byref, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from native.c_abi import ENTRIES, Rows, Status

ROOT = Path(__file__).resolve().parents[2]
OK, BAD_ARGUMENT, NO_MEMORY, UNSUPPORTED, DEVICE_ERROR = range(5)
LIBRARY_VARIABLE = "LAT_CUDA_LIBRARY"
GUARD_BYTES, ALIGNMENT = 1024, 256


def library_path() -> Path | None:
    named = os.environ.get(LIBRARY_VARIABLE)
    places = [Path(named)] if named else [ROOT / "build" / name / "liblat_cuda.so" for name in ("cuda", "plugins")]
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True)
class Device:
    """Where kernels run: a library, and torch's name of the device that its pointers are of."""

    library: ctypes.CDLL
    name: str

    @classmethod
    def load(cls, path: Path, name: str = "cuda") -> Device:
        library = ctypes.CDLL(str(path))
        for entry in ENTRIES.values():
            name_of_entry = entry.replace("_cpu", "_cuda")
            if hasattr(library, name_of_entry):
                getattr(library, name_of_entry).argtypes = (c_void_p, c_void_p, c_void_p, POINTER(Status))
                getattr(library, name_of_entry).restype = None
                getattr(library, name_of_entry + "_workspace").argtypes = (c_void_p, POINTER(Status))
                getattr(library, name_of_entry + "_workspace").restype = c_int64
        return cls(library, name)

    def workspace_bytes(self, arguments: ctypes.Structure) -> int:
        status = Status(-1, b"untouched")
        name = ENTRIES[type(arguments)].replace("_cpu", "_cuda_workspace")
        count: int = getattr(self.library, name)(byref(arguments), byref(status))
        assert (status.code == OK) == (count >= 0), status.message.decode()
        return count

    def enqueue(self, arguments: ctypes.Structure, workspace: int) -> tuple[int, str]:
        """On torch's current stream; the status' code and message."""
        status = Status(-1, b"untouched")
        stream = torch.cuda.current_stream().cuda_stream if self.name == "cuda" else None
        name = ENTRIES[type(arguments)].replace("_cpu", "_cuda")
        getattr(self.library, name)(byref(arguments), workspace, stream, byref(status))
        return status.code, status.message.decode()

    def run(self, arguments: ctypes.Structure, shape: torch.Size, dtype: torch.dtype, **how: Any) -> torch.Tensor:
        """The output of one call into poisoned memory; `poison` of the workspace, `offset` of the output in bytes."""
        output = Guarded(self.name, shape.numel() * dtype.itemsize, offset=how.get("offset", 0))
        workspace = Guarded(self.name, self.workspace_bytes(arguments), how.get("poison", 0xFF))
        rows = output.data.view(dtype).view(shape)
        arguments.output = Rows.of(rows)
        code, message = self.enqueue(arguments, workspace.data.data_ptr())
        assert code == OK, message
        output.check()
        workspace.check()
        return rows


class Guarded:
    """Bytes between canaries, on ALIGNMENT and `offset`; `poison` fills them: 0xFF is NaN in every element type."""

    def __init__(self, device: str, size: int, poison: int = 0xFF, offset: int = 0) -> None:
        self._poison = poison
        self._bytes = torch.full(
            (size + offset + ALIGNMENT + 2 * GUARD_BYTES,), poison, dtype=torch.uint8, device=device
        )
        self._first = GUARD_BYTES + offset + -(self._bytes.data_ptr() + GUARD_BYTES) % ALIGNMENT
        self.data = self._bytes[self._first : self._first + size]

    def check(self) -> None:
        assert (self._bytes[: self._first] == self._poison).all(), "written before the memory given"
        assert (self._bytes[self._first + len(self.data) :] == self._poison).all(), "written behind the memory given"
