"""BernoulliExpectation's CUDA kernels, their own source on a device that the host plays (plugins/cuda_on_host)."""

from __future__ import annotations

import pytest
import torch
from native.bernoulli_expectation_cuda_checks import SPECIAL_CEILING, check, inputs, run, special_inputs
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_host import play
from native.dense_cuda_checks import MASKS, with_padding_of

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernel_is_the_reference(dtype: torch.dtype, head_size: int, device: Device) -> None:
    """One token; a tile and its tail; blocks of 64 rows, and of 128 where there are many; copies late and at once."""
    for seed, (kind, tokens, heads) in enumerate(
        [("scattered", 150, 2), ("right padding", 65, 1), ("other numbers", 200, 1), ("plain", 1, 2)]
    ):
        play(device, int(tokens != 200), seed)
        check(device, cast(inputs(kind, tokens, heads, head_size), dtype), heads, 9)


@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind: str, device: Device) -> None:
    for tokens, heads in ((63, 1), (129, 3), (256, 1)):
        play(device, 1, tokens)
        check(device, cast(inputs(kind, tokens, heads, 32), HALF), heads, 8)


@pytest.mark.parametrize("bits", [1, 2, 3, 7, 8, 15, 16, 17, 31])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_code_lengths(dtype: torch.dtype, bits: int, device: Device) -> None:
    play(device, 1, bits)
    check(device, cast(inputs("scattered", 70, 1, 32), dtype), 1, bits)


def test_longest_code(device: Device) -> None:
    """Nothing but a parallel key has any weight."""
    query, key, value, mask = inputs("plain", 20, 1, 16, batch=1)
    for dtype in DTYPES:
        tensors = cast((query, key, value, mask), dtype)
        assert run(device, tensors, 1, 2**31 - 1).isfinite().all()


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, layout: str, device: Device) -> None:
    play(device, 1)
    check(device, cast(inputs("scattered", 90, 3, 32), dtype), 3, 9, layout)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_rows(dtype: torch.dtype, device: Device) -> None:
    for bits in (1, 9):
        for tensors in special_inputs(dtype, 40, 2, 16):
            check(device, tensors, 2, bits, ceiling=SPECIAL_CEILING)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_is_never_looked_at(dtype: torch.dtype, device: Device) -> None:
    for kind in ("left padding", "scattered"):
        query, key, value, mask = cast(inputs(kind, 100, 2, 32), dtype)
        clean = run(device, (query, key, value, mask), 2, 9)
        for number in (float("nan"), float("inf")):
            padded = (*(with_padding_of(number, rows, mask) for rows in (query, key, value)), mask)
            assert torch.equal(run(device, padded, 2, 9), clean)


@pytest.mark.parametrize("dtype", [HALF, BRAIN], ids=str)
def test_opposite_rows_have_no_weight(dtype: torch.dtype, device: Device) -> None:
    """A cosine of -1 exactly: weight 0, so only the other key is seen."""
    query, key, value = torch.zeros(1, 2, 16), torch.zeros(1, 2, 16), torch.zeros(1, 2, 16)
    query[..., 0] = 1
    key[0, :, 0] = torch.tensor([-2.0, 4.0])
    value[0, 0, :2], value[0, 1, 1] = torch.tensor([5.0, 1.0]), 7.0
    tensors = cast((query, key, value, torch.ones(1, 2, dtype=torch.int32)), dtype)
    for bits in (1, 9, 16):
        output = run(device, tensors, 1, bits)
        assert output[..., :2].tolist() == [[[0.0, 1.0]] * 2]
        assert (output[..., 2:] == 0).all()


def test_same_inputs_give_the_same_bits(device: Device) -> None:
    tensors = cast(inputs("scattered", 140, 2, 32), HALF)
    play(device, 0, 1)
    first = run(device, tensors, 2, 9)
    for seed in (2, 3):
        play(device, 1, seed)
        assert torch.equal(run(device, tensors, 2, 9), first)
