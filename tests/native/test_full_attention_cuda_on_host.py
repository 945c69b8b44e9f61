"""FullAttention's CUDA kernels, their own source on a device that the host plays (plugins/cuda_on_host)."""

from __future__ import annotations

import pytest
import torch
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_host import play
from native.dense_cuda_checks import MASKS, with_padding_of
from native.full_attention_cuda_checks import check, inputs, run

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernel_is_the_reference(dtype: torch.dtype, head_size: int, device: Device) -> None:
    """One token; a tile and its tail; blocks of 64 rows, and of 128 where there are many; copies late and at once."""
    for seed, (kind, tokens, heads, taps) in enumerate(
        [("scattered", 150, 2, 5), ("right padding", 65, 1, 1), ("other numbers", 200, 1, 33), ("plain", 1, 2, 3)]
    ):
        play(device, int(tokens != 200), seed)
        check(device, cast(inputs(kind, tokens, heads, head_size, taps), dtype))


@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind: str, device: Device) -> None:
    for tokens, heads in ((63, 1), (129, 3), (256, 1)):
        play(device, 1, tokens)
        check(device, cast(inputs(kind, tokens, heads, 32), HALF))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_a_token_every_row_is_the_mean_of_all_values(dtype: torch.dtype, device: Device) -> None:
    for tokens in (1, 63, 130):
        query, key, value, mask, weight = cast(inputs("all padding", tokens, 1, 32), dtype)
        output = run(device, (query * 30, key, value, mask, weight), convolution=False)
        mean = value.double().mean(1, keepdim=True).expand_as(value)
        assert (output.double() - mean).abs().max() <= torch.finfo(dtype).eps * 2


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, layout: str, device: Device) -> None:
    play(device, 1)
    tensors = cast(inputs("scattered", 90, 3, 32), dtype)
    check(device, tensors, layout)
    check(device, tensors, offset=dtype.itemsize)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_convolution(dtype: torch.dtype, device: Device) -> None:
    play(device, 0)
    check(device, cast(inputs("scattered", 140, 2, 16), dtype), convolution=False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_keys_of_padding_are_never_read(dtype: torch.dtype, device: Device) -> None:
    """Nor its values by the attention: the convolution takes every value."""
    for kind in ("left padding", "scattered"):
        query, key, value, mask, weight = cast(inputs(kind, 100, 2, 32), dtype)
        clean = run(device, (query, key, value, mask, weight), convolution=False)
        padded = (query, *(with_padding_of(float("nan"), rows, mask) for rows in (key, value)), mask, weight)
        assert torch.equal(run(device, padded, convolution=False), clean)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_constant_and_large_rows(dtype: torch.dtype, device: Device) -> None:
    rows, _, value, mask, weight = cast(inputs("plain", 70, 1, 16, batch=1), dtype)
    zero, one = torch.zeros_like(rows), torch.ones_like(rows)
    for query, key in ((zero, rows), (one, one), (one * 100, one * 100), (one * 100, one * -100)):
        check(device, (query, key, value, mask, weight))


def test_same_inputs_give_the_same_bits(device: Device) -> None:
    tensors = cast(inputs("scattered", 140, 2, 32), HALF)
    play(device, 0, 1)
    first = run(device, tensors)
    for seed in (2, 3):
        play(device, 1, seed)
        assert torch.equal(run(device, tensors), first)
