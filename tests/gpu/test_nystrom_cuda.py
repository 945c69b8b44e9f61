"""NystromAttention's CUDA kernels against the float64 reference, on a machine with an NVIDIA GPU: make gpu-test."""

from __future__ import annotations

import pytest
import torch
from native import cuda_on_gpu
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_gpu import SMALL, Call, check_graph, check_refusals, check_same_bits
from native.nystrom_cuda_checks import MASKS, check_nystrom, nystrom_arguments, nystrom_inputs

pytestmark = cuda_on_gpu.MARKS
device = cuda_on_gpu.device  # the fixture

OPS = ("nystrom_attention",)
# N and L.
SHAPES = (
    ((1, 1), (77, 7), (192, 64), (130, 65))
    if SMALL
    else ((1, 1), (63, 1), (65, 5), (77, 7), (128, 128), (192, 64), (130, 65), (1000, 100), (2112, 64))
)


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


def call(dtype: torch.dtype, tokens: int = 768) -> Call:
    return Call(cast(nystrom_inputs("none", tokens, 65, 4), dtype), lambda rows: nystrom_arguments(rows, 64))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, device: Device) -> None:
    check_same_bits(device, call(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_inputs(dtype: torch.dtype, device: Device) -> None:
    check_graph(device, call(dtype), {kind: nystrom_inputs(kind, 768, 65, 4)[3] for kind in MASKS})


def test_refusals(device: Device) -> None:
    made = Call(nystrom_inputs("none", 260, 3), lambda rows: nystrom_arguments(rows, 10))
    check_refusals(device, made, ("num_landmarks", 130, "L=130"))
