"""Calls of the CUDA kernels: the CPU kernels' arguments with pointers of the device, on torch's current stream.

Nothing here waits for the device, and all memory comes from torch's allocator, so a CUDA graph can capture a call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import MissingError
from lat_export.native.abi import OK, Status
from lat_export.native.library import CUDA_ADVICE, cuda_library, opened

if TYPE_CHECKING:
    import torch


def run(entry: str, arguments: Structure, device: torch.device) -> Status:
    """Put the kernels of `lat_<op>_cuda` on the current stream of `device`.

    Raises:
        MissingError: no liblat_cuda, one of another version, or one without this op.
    """
    import torch

    library = opened(cuda_library())
    with torch.cuda.device(device):

        def workspace(size: int) -> torch.Tensor:
            # Torch hands it out again only for what comes later on this stream.
            return torch.empty(max(size, 1), dtype=torch.uint8, device=device)

        return enqueue(library, entry, arguments, workspace, torch.cuda.current_stream().cuda_stream)


def enqueue(
    library: ctypes.CDLL,
    entry: str,
    arguments: Structure,
    workspace: Callable[[int], torch.Tensor],
    stream: int | None,
) -> Status:
    """Ask for the workspace's size, take it, and call.

    Args:
        workspace: memory of so many bytes, on 256 bytes.
    """
    status = Status()
    size_of, call = _entries(library, entry, type(arguments))
    size = size_of(byref(arguments), byref(status))
    if status.code == OK:
        call(byref(arguments), workspace(size).data_ptr(), stream, byref(status))
    return status


@cache
def _entries(library: ctypes.CDLL, entry: str, arguments: type[Structure]) -> tuple[Any, Any]:
    try:
        size_of, call = getattr(library, f"{entry}_workspace"), getattr(library, entry)
    except AttributeError as error:
        name = Path(library._name).name
        raise MissingError(f"the CUDA kernels have no {entry}", got=name, hint=CUDA_ADVICE) from error
    size_of.argtypes, size_of.restype = (POINTER(arguments), POINTER(Status)), c_int64
    call.argtypes, call.restype = (POINTER(arguments), c_void_p, c_void_p, POINTER(Status)), None
    return size_of, call
