"""lat_full_attention_cpu against the float64 reference, on every instruction set of this processor."""

from __future__ import annotations

import ctypes
import itertools

import pytest
import torch
from native import c_abi
from native.c_abi import DTYPES, Guarded, Rows, pointer
from native.kernel_checks import (
    HEAD_SIZES,
    MASKS,
    WORDS,
    apart,
    bad_sizes,
    cast,
    check_policy,
    check_refused,
    check_same_bits,
    run_into_guarded,
    set_field,
    without,
)
from native.kernel_checks import (
    convolved_inputs as inputs,
)

from lat_export.ops import OPS

OP = OPS["FullAttention"]
# One token, less than a panel of 64 rows or a chunk of 128 keys, one more, several blocks of 256 rows.
LENGTHS = (1, 2, 17, 63, 64, 65, 128, 129, 256, 300, 1030)
SIZES = ("batch", "tokens", "width", "num_heads", "taps")
POINTERS = ("query", "key", "value", "attention_mask", "output")


def arguments(tensors: tuple[torch.Tensor, ...]) -> c_abi.FullAttention:
    *rows, mask, weight = tensors
    heads, taps = weight.shape
    sizes = (*rows[0].shape, heads, taps, DTYPES[weight.dtype])
    return c_abi.FullAttention(*sizes, *map(Rows.of, rows), Rows(), pointer(mask), pointer(weight))


def call(kernels: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], parallel=None) -> torch.Tensor:
    return run_into_guarded(kernels, arguments(tensors), tensors[0], parallel)


def check(kernels: ctypes.CDLL, tensors: tuple[torch.Tensor, ...]) -> None:
    check_policy(OP, call(kernels, tensors), tensors, {"num_heads": tensors[4].shape[0]})


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_is_the_reference(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    every_taps = itertools.cycle((1, 3, 65))
    for (tokens, kind), taps in zip(itertools.product(LENGTHS, MASKS), every_taps, strict=False):
        check(kernels, cast(inputs(tokens, kind, taps), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_head_size(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    for size, heads in itertools.product((*HEAD_SIZES, 1, 3, 65), (1, 2, 3)):
        check(kernels, cast(inputs(77, "right", 5, heads, size), dtype))


def test_more_taps_than_tokens(kernels: ctypes.CDLL) -> None:
    for tokens, taps in itertools.product((1, 8, 64, 257), (131, 1001)):
        check(kernels, inputs(tokens, "none", taps))


def test_no_convolution(kernels: ctypes.CDLL) -> None:
    tensors = inputs(300)
    bare = arguments(tensors)
    bare.conv_weight, bare.taps = None, 0
    output = run_into_guarded(kernels, bare, tensors[0], None)
    check_policy(OP, output, (*tensors[:4], torch.zeros_like(tensors[4])), {"num_heads": 2})


def test_rows_may_lie_apart(kernels: ctypes.CDLL) -> None:
    tensors = inputs(300, "right")
    assert torch.equal(call(kernels, apart(tensors)), call(kernels, tensors))


def test_same_bits_for_any_threads(kernels: ctypes.CDLL) -> None:
    tensors = inputs(1030, "right", 65, 3, 20)
    check_same_bits(lambda parallel: call(kernels, tensors, parallel))


def test_padded_keys_are_never_read(kernels: ctypes.CDLL) -> None:
    query, key, value, mask, weight = inputs(300, "right", taps=1)
    weight = torch.zeros_like(weight)
    clean = call(kernels, (query, key, value, mask, weight))
    poisoned = key.masked_fill((mask == 0)[..., None], float("nan"))
    assert torch.equal(call(kernels, (query, poisoned, value, mask, weight)), clean)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_constant_and_large_rows_give_no_nan(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    rows, _, value, mask, weight = cast(inputs(200), dtype)
    zero, one = torch.zeros_like(rows), torch.ones_like(rows)
    large = one * 200
    for query, key, v in ((zero, rows, value), (one, one, one), (large, large, value), (large, -large, one)):
        assert call(kernels, (query, key, v, mask, weight)).isfinite().all()


def test_bad_arguments_are_refused_and_nothing_is_written(kernels: ctypes.CDLL) -> None:
    output = Guarded((3, 40, 32), torch.float32)
    good = arguments(inputs(40))
    good.output = Rows.of(output.tensor)
    for name, size in bad_sizes(SIZES):
        check_refused(kernels, set_field(good, name, size), output, f"{WORDS.get(name, name)}: got {size}")
    for name in POINTERS:
        check_refused(kernels, without(good, name), output, f"{name}: got a null pointer")
    for dtype in (-1, 3, 99):
        check_refused(kernels, set_field(good, "dtype", dtype), output, "dtype")
    check_refused(kernels, set_field(good, "taps", 4), output, "an odd number")
    product = set_field(set_field(good, "batch", 2**30), "tokens", 2**30)
    check_refused(kernels, product, output, "expected at most")
