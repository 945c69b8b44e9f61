"""NystromAttention's CUDA kernels against the float64 reference, on a machine with an NVIDIA GPU.

make gpu-test        (on that machine; LAT_GPU_CASES=small leaves what the compute sanitizer can get through)
"""

from __future__ import annotations

import os

import pytest
import torch
from native import cuda_abi
from native.c_abi import Rows
from native.cuda_abi import Device, Guarded
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.nystrom_cuda_checks import MASKS, check_nystrom, nystrom_arguments, nystrom_inputs, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(cuda_abi.library_path() is None, reason="no liblat_cuda.so: make gpu-library"),
]

SMALL = os.environ.get("LAT_GPU_CASES") == "small"
# N and L.
SHAPES = (
    ((1, 1), (77, 7), (192, 64), (130, 65))
    if SMALL
    else ((1, 1), (63, 1), (65, 5), (77, 7), (128, 128), (192, 64), (130, 65), (1000, 100), (2112, 64))
)


@pytest.fixture(scope="module")
def device() -> Device:
    path = cuda_abi.library_path()
    assert path is not None
    return Device.load(path)


@pytest.fixture(autouse=True)
def exact_products() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_nystrom(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for at, (tokens, landmarks) in enumerate(SHAPES):
        tensors = cast(nystrom_inputs(kind, tokens, (1, 3, 65)[at % 3], 2, head_size, 3), dtype)
        check_nystrom(device, tensors, landmarks, at % 2)


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    tensors = cast(nystrom_inputs("right", 320, 65, 3, head_size), dtype)
    check_nystrom(device, tensors, 64, 0, layout)
    check_nystrom(device, tensors, 64, 0, offset=dtype.itemsize)


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_taps(dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens, taps in ((4, 1001), (330, 1201)) if SMALL else ((4, 1001), (330, 1201), (2000, 511), (2000, 1025)):
        check_nystrom(device, cast(nystrom_inputs("none", tokens, taps, 2, head_size), dtype), 1)
    check_nystrom(device, cast(nystrom_inputs("left", 320, 3, 2, head_size), dtype), 64, convolution=False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_in_a_model(dtype: torch.dtype, device: Device) -> None:
    """Many segments of keys, and several blocks of rows for a block of threads."""
    shapes = ((1, 512),) if SMALL else ((1, 512), (1, 4096), (8, 4096), (1, 16384))
    for batch, tokens in shapes:
        for kind in ("none", "right"):
            check_nystrom(device, cast(nystrom_inputs(kind, tokens, 65, 12, 64, batch), dtype), 64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    check_nystrom(device, cast(nystrom_inputs("right", 2, 3, 40000, 16), dtype), 2, 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, device: Device) -> None:
    tensors = tuple(tensor.cuda() for tensor in cast(nystrom_inputs("right", 1024, 65, 4), dtype))
    first = run(device, tensors, 64)
    for poison in (0, 0x3C, 0x7F, 0xFF):
        assert torch.equal(run(device, tensors, 64, poison=poison), first)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_inputs_and_masks(dtype: torch.dtype, device: Device) -> None:
    tensors = tuple(tensor.cuda() for tensor in cast(nystrom_inputs("none", 768, 65, 4), dtype))
    made = nystrom_arguments(tensors, 64)
    output = Guarded("cuda", tensors[0].nbytes)
    workspace = Guarded("cuda", device.workspace_bytes(made))
    rows = output.data.view(dtype).view(tensors[0].shape)
    made.output = Rows.of(rows)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        code, message = device.enqueue(made, workspace.data.data_ptr())
    assert code == cuda_abi.OK, message
    for kind in ("right", "one row all padding", "left", "none"):
        other = cast(nystrom_inputs(kind, 768, 65, 4), dtype)
        for tensor, new in zip(tensors, other, strict=True):
            tensor.copy_(new if new.dtype == torch.int32 else new * 0.9)
        rows.fill_(float("nan"))
        graph.replay()
        assert torch.equal(rows, run(device, tensors, 64)), kind
    output.check()
    workspace.check()


def test_refusals(device: Device) -> None:
    tensors = tuple(tensor.cuda() for tensor in nystrom_inputs("none", 260, 3))
    made = nystrom_arguments(tensors, 10)
    made.output = made.query
    workspace = Guarded("cuda", device.workspace_bytes(made))
    code, message = device.enqueue(made, workspace.data.data_ptr() + 16)
    assert code == cuda_abi.BAD_ARGUMENT
    assert message.startswith("workspace: got ")
    made.num_landmarks = 130
    code, message = device.enqueue(made, workspace.data.data_ptr())
    assert code == cuda_abi.UNSUPPORTED
    assert "L=130" in message
