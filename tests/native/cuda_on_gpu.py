"""What the tests of CUDA kernels share on a machine with an NVIDIA GPU.

make gpu-test        (on that machine; LAT_GPU_CASES=small leaves what the compute sanitizer can get through)
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import pytest
import torch
from native import cuda_abi
from native.c_abi import Rows
from native.cuda_abi import Device, Guarded

MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(cuda_abi.library_path() is None, reason="no liblat_cuda.so: make gpu-library"),
]
SMALL = os.environ.get("LAT_GPU_CASES") == "small"


@pytest.fixture(scope="module")
def device() -> Device:
    """For `device = cuda_on_gpu.device` in a module of tests: the built library, and references with all of float32."""
    path = cuda_abi.library_path()
    assert path is not None
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return Device.load(path)


class Call:
    """Arguments of one op, and the tensors on the GPU that they point at: the first is query, the fourth the mask."""

    def __init__(self, tensors: tuple[torch.Tensor, ...], arguments: Callable[..., ctypes.Structure]) -> None:
        self.tensors = tuple(tensor.cuda() for tensor in tensors)
        self.like, self.mask = self.tensors[0], self.tensors[3]
        self.arguments = arguments(self.tensors)

    def run(self, device: Device, poison: int = 0xFF) -> torch.Tensor:
        return device.run(self.arguments, self.like.shape, self.like.dtype, poison=poison)


def check_same_bits(device: Device, call: Call) -> None:
    first = call.run(device)
    for poison in (0, 0x3C, 0x7F, 0xFF):
        assert torch.equal(call.run(device, poison), first)


def check_graph(device: Device, call: Call, masks: dict[str, torch.Tensor]) -> None:
    """One graph is replayed with other activations and masks."""
    output = Guarded("cuda", call.like.nbytes)
    workspace = Guarded("cuda", device.workspace_bytes(call.arguments))
    rows = output.data.view(call.like.dtype).view(call.like.shape)
    call.arguments.output = Rows.of(rows)  # type: ignore[attr-defined]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        code, message = device.enqueue(call.arguments, workspace.data.data_ptr())
    assert code == cuda_abi.OK, message
    for kind, mask in masks.items():
        call.mask.copy_(mask)
        for tensor in call.tensors[:3]:
            tensor.copy_(tensor.roll(1, 1))
        rows.fill_(float("nan"))
        graph.replay()
        assert torch.equal(rows, call.run(device)), kind
    output.check()
    workspace.check()


def check_refusals(device: Device, call: Call) -> None:
    """A workspace off its alignment, and a head size that the kernels lack; `call` has heads of 64."""
    workspace = Guarded("cuda", device.workspace_bytes(call.arguments))
    call.arguments.output = Rows.of(torch.empty_like(call.like))  # type: ignore[attr-defined]
    code, message = device.enqueue(call.arguments, workspace.data.data_ptr() + 16)
    assert code == cuda_abi.BAD_ARGUMENT
    assert message.startswith("workspace: got ")
    call.arguments.num_heads *= 8  # type: ignore[attr-defined]
    code, message = device.enqueue(call.arguments, workspace.data.data_ptr())
    assert code == cuda_abi.UNSUPPORTED
    assert "D=8" in message
