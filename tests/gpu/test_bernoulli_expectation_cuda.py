"""BernoulliExpectation's CUDA kernels against the float64 reference, on a machine with an NVIDIA GPU: make gpu-test."""

from __future__ import annotations

import pytest
import torch
from native import cuda_on_gpu
from native.bernoulli_expectation_cuda_checks import SPECIAL_CEILING, arguments, check, inputs, run, special_inputs
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_gpu import SMALL, Call, check_graph, check_refusals, check_same_bits
from native.dense_cuda_checks import MASKS, padding_mask, with_padding_of

pytestmark = cuda_on_gpu.MARKS
device = cuda_on_gpu.device  # the fixture

LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)


def call(dtype: torch.dtype, tokens: int = 700) -> Call:
    return Call(cast(inputs("scattered", tokens, 4, 64), dtype), lambda tensors: arguments(tensors, 4, 9))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_kernel_is_the_reference(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens in LENGTHS:
        check(device, cast(inputs(kind, tokens, 2, head_size), dtype), 2, 9)


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_code_lengths(dtype: torch.dtype, head_size: int, device: Device) -> None:
    tensors = cast(inputs("right padding", 200, 2, head_size), dtype)
    for bits in (1, 2, 3, 8, 15, 16, 17, 31):
        check(device, tensors, 2, bits)
    assert run(device, tensors, 2, 2**31 - 1).isfinite().all()


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    check(device, cast(inputs("scattered", 200, 3, head_size), dtype), 3, 9, layout)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blocks_of_128_rows(dtype: torch.dtype, device: Device) -> None:
    """So many that every multiprocessor has several; then a long sequence."""
    for tokens, heads, head_size in ((130, 40 if SMALL else 300, 32), (300 if SMALL else 9000, 2, 64)):
        check(device, cast(inputs("scattered", tokens, heads, head_size, batch=2), dtype), heads, 9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    check(device, cast(inputs("plain", 3, 40000, 16, batch=2), dtype), 40000, 9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_rows(dtype: torch.dtype, device: Device) -> None:
    for tensors in special_inputs(dtype, 130, 2, 64):
        for bits in (1, 9):
            check(device, tensors, 2, bits, ceiling=SPECIAL_CEILING)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_is_never_looked_at(dtype: torch.dtype, device: Device) -> None:
    query, key, value, mask = cast(inputs("scattered", 300, 2, 64), dtype)
    clean = run(device, (query, key, value, mask), 2, 9)
    for number in (float("nan"), float("inf")):
        padded = (*(with_padding_of(number, rows, mask) for rows in (query, key, value)), mask)
        assert torch.equal(run(device, padded, 2, 9), clean)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, device: Device) -> None:
    check_same_bits(device, call(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_inputs(dtype: torch.dtype, device: Device) -> None:
    check_graph(device, call(dtype), {kind: padding_mask(kind, 3, 700, seed=3) for kind in MASKS})


def test_refusals(device: Device) -> None:
    check_refusals(device, call(torch.float16))
