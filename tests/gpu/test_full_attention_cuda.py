"""FullAttention's CUDA kernels against the float64 reference, on a machine with an NVIDIA GPU: make gpu-test."""

from __future__ import annotations

import pytest
import torch
from native import cuda_on_gpu
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_gpu import SMALL, Call, check_graph, check_refusals, check_same_bits
from native.dense_cuda_checks import MASKS, padding_mask, with_padding_of
from native.full_attention_cuda_checks import arguments, check, inputs, run

pytestmark = cuda_on_gpu.MARKS
device = cuda_on_gpu.device  # the fixture

LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)


def call(dtype: torch.dtype, tokens: int = 700) -> Call:
    return Call(cast(inputs("scattered", tokens, 4, 64, 33), dtype), arguments)


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_kernel_is_the_reference(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens in LENGTHS:
        for taps in (1, 33):
            check(device, cast(inputs(kind, tokens, 2, head_size, taps), dtype))


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    tensors = cast(inputs("scattered", 200, 3, head_size), dtype)
    check(device, tensors, layout)
    check(device, tensors, offset=dtype.itemsize)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blocks_of_128_rows(dtype: torch.dtype, device: Device) -> None:
    """So many that every multiprocessor has several; then a long sequence."""
    for tokens, heads, head_size in ((130, 40 if SMALL else 300, 32), (300 if SMALL else 9000, 2, 64)):
        check(device, cast(inputs("scattered", tokens, heads, head_size, batch=2), dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    check(device, cast(inputs("plain", 3, 40000, 16, 3, batch=2), dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_convolution(dtype: torch.dtype, device: Device) -> None:
    check(device, cast(inputs("scattered", 300, 2, 64), dtype), convolution=False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_keys_of_padding_are_never_read(dtype: torch.dtype, device: Device) -> None:
    """Nor its values by the attention: the convolution takes every value."""
    query, key, value, mask, weight = cast(inputs("scattered", 300, 2, 64), dtype)
    clean = run(device, (query, key, value, mask, weight), convolution=False)
    padded = (query, *(with_padding_of(float("nan"), rows, mask) for rows in (key, value)), mask, weight)
    assert torch.equal(run(device, padded, convolution=False), clean)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, device: Device) -> None:
    check_same_bits(device, call(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_inputs(dtype: torch.dtype, device: Device) -> None:
    check_graph(device, call(dtype), {kind: padding_mask(kind, 3, 700, seed=3) for kind in MASKS})


def test_refusals(device: Device) -> None:
    check_refusals(device, call(torch.float16))
