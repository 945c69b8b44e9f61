"""The CUDA kernels of the two Longformer ops against the float64 reference, on a machine with an NVIDIA GPU.

make gpu-test        (on that machine; LAT_GPU_CASES=small leaves what the compute sanitizer can get through)
"""

from __future__ import annotations

import ctypes
import os

import pytest
import torch
from native import cuda_abi
from native.c_abi import Rows, banded_arguments, global_arguments
from native.cuda_abi import Device, Guarded
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.longformer_cuda_checks import (
    MASKS,
    banded_attributes,
    banded_inputs,
    check_banded,
    check_global,
    global_inputs,
    token_mask,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(cuda_abi.library_path() is None, reason="no liblat_cuda.so: make gpu-library"),
]

OPS = ("banded_window_attention", "global_token_attention")
SMALL = os.environ.get("LAT_GPU_CASES") == "small"
LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)
WINDOWS = (1, 100, 2**31 - 1) if SMALL else (1, 16, 63, 64, 65, 100, 256, 2**31 - 1)


@pytest.fixture(scope="module")
def device() -> Device:
    path = cuda_abi.library_path()
    assert path is not None
    return Device.load(path)


@pytest.fixture(autouse=True)
def exact_products() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_banded(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens in LENGTHS:
        tensors = cast(banded_inputs(kind, tokens, 2, head_size), dtype)
        for window in WINDOWS:
            check_banded(device, tensors, banded_attributes(2, window))


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    tensors = cast(banded_inputs("scattered", 200, 3, head_size), dtype)
    check_banded(device, tensors, banded_attributes(3, 50), layout)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    tensors = cast(banded_inputs("first global", 3, 40000, 16, batch=2), dtype)
    check_banded(device, tensors, banded_attributes(40000, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_long(dtype: torch.dtype, device: Device) -> None:
    """A list of more than one round, globals far away."""
    tensors = cast(banded_inputs("scattered", 300 if SMALL else 9000, 1, 64, batch=2), dtype)
    check_banded(device, tensors, banded_attributes(1, 256))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_global(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens in LENGTHS[:11]:
        for form in (0, 2):
            tensors = cast(global_inputs(kind, tokens, 3, head_size), dtype)
            check_global(device, tensors, {"num_heads": 3, "scale": 0.4}, form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_as_in_a_model(dtype: torch.dtype, device: Device) -> None:
    """Rows with 3, 43 and 83 globals: probes and full projections in one call; then more heads than probes."""
    for heads, head_size, tokens in ((12, 64, 300 if SMALL else 1500), (80, 16, 200)):
        tensors = cast(global_inputs("scattered", tokens, heads, head_size), dtype)
        for form in (0, 1, 2):
            check_global(device, tensors, {"num_heads": heads, "scale": 0.125}, form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_off_16_bytes(dtype: torch.dtype, device: Device) -> None:
    tensors = cast(global_inputs("scattered", 200, 2, 32), dtype)
    for form in (0, 2):
        check_global(device, tensors, {"num_heads": 2, "scale": 0.2}, form, odd=True)
        check_global(device, tensors, {"num_heads": 2, "scale": 0.2}, form, offset=dtype.itemsize)


class Call:
    """Arguments of one op, and the tensors that they point at."""

    def __init__(self, name: str, dtype: torch.dtype, tokens: int = 700) -> None:
        make = banded_inputs if name == "banded" else global_inputs
        self.tensors = tuple(tensor.cuda() for tensor in cast(make("scattered", tokens, 4, 64), dtype))
        self.like = self.tensors[0]
        self.mask = self.tensors[3 if name == "banded" else 1]
        self.arguments: ctypes.Structure = (
            banded_arguments(self.tensors, self.like, banded_attributes(4, 100))
            if name == "banded"
            else global_arguments(self.tensors, self.like, {"num_heads": 4, "scale": 0.125})
        )

    def run(self, device: Device, poison: int = 0xFF) -> torch.Tensor:
        return device.run(self.arguments, self.like.shape, self.like.dtype, poison=poison)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["banded", "global"])
def test_same_inputs_give_the_same_bits(name: str, dtype: torch.dtype, device: Device) -> None:
    call = Call(name, dtype)
    first = call.run(device)
    for poison in (0, 0x3C, 0x7F, 0xFF):
        assert torch.equal(call.run(device, poison), first)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["banded", "global"])
def test_a_graph_is_replayed_with_other_masks(name: str, dtype: torch.dtype, device: Device) -> None:
    call = Call(name, dtype)
    output = Guarded("cuda", call.like.nbytes)
    workspace = Guarded("cuda", device.workspace_bytes(call.arguments))
    rows = output.data.view(dtype).view(call.like.shape)
    call.arguments.output = Rows.of(rows)  # type: ignore[attr-defined]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        code, message = device.enqueue(call.arguments, workspace.data.data_ptr())
    assert code == cuda_abi.OK, message
    for kind in ("plain", "all global", "first global", "right padding", "scattered"):
        call.mask.copy_(token_mask(kind, *call.mask.shape, seed=3))
        rows.fill_(float("nan"))
        graph.replay()
        assert torch.equal(rows, call.run(device)), kind
    output.check()
    workspace.check()


def test_refusals(device: Device) -> None:
    call = Call("banded", torch.float16)
    workspace = Guarded("cuda", device.workspace_bytes(call.arguments))
    code, message = device.enqueue(call.arguments, workspace.data.data_ptr() + 16)
    assert code == cuda_abi.BAD_ARGUMENT
    assert message.startswith("workspace: got ")
    call.arguments.num_heads *= 8  # type: ignore[attr-defined]
    code, message = device.enqueue(call.arguments, workspace.data.data_ptr())
    assert code == cuda_abi.UNSUPPORTED
    assert "D=8" in message
