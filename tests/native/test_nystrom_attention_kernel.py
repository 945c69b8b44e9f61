"""lat_nystrom_attention_cpu against the float64 reference, on every instruction set of this processor."""

from __future__ import annotations

import ctypes
import itertools

import pytest
import torch
from native import c_abi
from native.c_abi import DTYPES, NO_MEMORY, Guarded, Rows, pointer
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

OP = OPS["NystromAttention"]
# N and L: one token, as many landmarks as tokens, multiples, primes, more than one segment of keys.
LENGTHS = (
    (1, 1),
    (2, 2),
    (2, 1),
    (8, 8),
    (16, 8),
    (40, 8),
    (96, 8),
    (97, 1),
    (194, 97),
    (130, 65),
    (257, 1),
    (320, 64),
)
SIZES = ("batch", "tokens", "width", "num_heads", "num_landmarks", "taps")
POINTERS = ("query", "key", "value", "attention_mask", "conv_weight", "output")


def attributes(tensors: tuple[torch.Tensor, ...], landmarks: int, per_head_init: int = 0) -> dict[str, int]:
    return {"num_heads": tensors[4].shape[0], "num_landmarks": landmarks, "per_head_init": per_head_init}


def arguments(tensors: tuple[torch.Tensor, ...], landmarks: int, per_head_init: int = 0) -> c_abi.NystromAttention:
    *rows, mask, weight = tensors
    heads, taps = weight.shape
    sizes = (*rows[0].shape, heads, landmarks, taps, DTYPES[weight.dtype], per_head_init)
    return c_abi.NystromAttention(*sizes, *map(Rows.of, rows), Rows(), pointer(mask), pointer(weight))


def call(
    kernels: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], landmarks: int, per_head_init: int = 0, parallel=None
) -> torch.Tensor:
    return run_into_guarded(kernels, arguments(tensors, landmarks, per_head_init), tensors[0], parallel)


def check(kernels: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], landmarks: int, per_head_init: int = 0) -> None:
    output = call(kernels, tensors, landmarks, per_head_init)
    check_policy(OP, output, tensors, attributes(tensors, landmarks, per_head_init))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_head_init", [0, 1])
def test_kernel_is_the_reference(kernels: ctypes.CDLL, dtype: torch.dtype, per_head_init: int) -> None:
    every_taps = itertools.cycle((1, 3, 65))
    for ((tokens, landmarks), kind), taps in zip(itertools.product(LENGTHS, MASKS), every_taps, strict=False):
        check(kernels, cast(inputs(tokens, kind, taps), dtype), landmarks, per_head_init)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_head_size(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    for size, heads, landmarks in itertools.product((*HEAD_SIZES, 1, 3, 65), (1, 2, 3), (3, 16)):
        check(kernels, cast(inputs(48, "right", 5, heads, size), dtype), landmarks)


def test_several_segments_of_keys(kernels: ctypes.CDLL) -> None:
    """Whole segments of padding among them."""
    for tokens, kind in itertools.product((1032, 2112, 9000), ("none", "right", "left", "one row all padding")):
        tensors = inputs(tokens, kind, 65)
        if kind == "left":
            tensors[3][1, :1100] = 0
        check(kernels, tensors, 8)


def test_more_taps_than_tokens(kernels: ctypes.CDLL) -> None:
    for tokens, taps in itertools.product((1, 8, 64), (131, 1001)):
        check(kernels, inputs(tokens, "none", taps), 1)


def test_no_convolution(kernels: ctypes.CDLL) -> None:
    tensors = inputs(40)
    bare = arguments(tensors, 8)
    bare.conv_weight, bare.taps = None, 0
    output = run_into_guarded(kernels, bare, tensors[0], None)
    zeros = (*tensors[:4], torch.zeros_like(tensors[4]))
    check_policy(OP, output, zeros, attributes(zeros, 8))


def test_rows_may_lie_apart(kernels: ctypes.CDLL) -> None:
    tensors = inputs(40, "right")
    assert torch.equal(call(kernels, apart(tensors), 8), call(kernels, tensors, 8))


def test_same_bits_for_any_threads(kernels: ctypes.CDLL) -> None:
    tensors = inputs(2112, "right", 65, 3, 20)
    check_same_bits(lambda parallel: call(kernels, tensors, 8, 0, parallel))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_and_constant_rows_give_no_nan(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    rows, _, value, mask, weight = cast(inputs(200), dtype)
    zero, one = torch.zeros_like(rows), torch.ones_like(rows)
    large = one * 200
    for query, key, v in (
        (zero, rows, value),
        (one, one, one),
        (zero, zero, zero),
        (large, large, value),
        (large, -large, one),
    ):
        assert call(kernels, (query, key, v, mask, weight), 8).isfinite().all()


def test_batch_start_couples_rows_and_head_start_does_not(kernels: ctypes.CDLL) -> None:
    tensors = inputs(40)
    for per_head_init, coupled in ((0, True), (1, False)):
        together = call(kernels, tensors, 8, per_head_init)
        alone = [
            call(kernels, (*(t[b : b + 1] for t in tensors[:4]), tensors[4]), 8, per_head_init)[0] for b in range(3)
        ]
        assert all(torch.equal(together[b], alone[b]) for b in range(3)) != coupled


def test_bad_arguments_are_refused_and_nothing_is_written(kernels: ctypes.CDLL) -> None:
    tensors, output = inputs(40), Guarded((3, 40, 32), torch.float32)
    good = arguments(tensors, 8)
    good.output = Rows.of(output.tensor)
    for name, size in bad_sizes(SIZES):
        check_refused(kernels, set_field(good, name, size), output, f"{WORDS.get(name, name)}: got {size}")
    for name in POINTERS:
        if name != "conv_weight":
            check_refused(kernels, without(good, name), output, f"{name}: got a null pointer")
    for dtype in (-1, 3, 99):
        check_refused(kernels, set_field(good, "dtype", dtype), output, "dtype")
    for start in (-1, 2):
        check_refused(kernels, set_field(good, "per_head_init", start), output, "per_head_init")
    check_refused(kernels, set_field(good, "num_landmarks", 7), output, "N=40, L=7")
    check_refused(kernels, set_field(good, "taps", 4), output, "an odd number")
    product = good
    for name in ("batch", "tokens"):
        product = set_field(product, name, 2**30)
    check_refused(kernels, product, output, "expected at most")
    landmarks = set_field(set_field(good, "tokens", 2**30), "num_landmarks", 2**30)
    check_refused(kernels, landmarks, output, "expected at most")


def test_more_scratch_than_there_is(kernels: ctypes.CDLL) -> None:
    output = Guarded((3, 40, 32), torch.float32)
    huge = arguments(inputs(40), 8)
    huge.output, huge.batch, huge.num_heads = Rows.of(output.tensor), 1, 1
    huge.tokens = huge.num_landmarks = 2**22
    code, message = c_abi.call(kernels, huge)
    assert (code, "no memory" in message) == (NO_MEMORY, True)
    assert output.untouched()
