"""lat_lsh_cumulation_cpu against tables in float64, on every instruction set of this processor.

Rows that a projection within rounding of zero can reach are left to `check_node`; all others must be right.
"""

from __future__ import annotations

import ctypes
import itertools

import pytest
import torch
from native import c_abi
from native.c_abi import DTYPES, NO_MEMORY, Guarded, Rows
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
from native.lsh_cumulation_checks import arguments, check, inputs, of_few_bits

from lat_export.ops import OPS

OP = OPS["LshCumulation"]
LENGTHS = (1, 2, 5, 17, 33, 64, 65, 97, 257, 300)
SIZES = ("batch", "tokens", "width", "num_heads", "num_hash", "hash_code_len")
POINTERS = ("query", "key", "value", "attention_mask", "projection", "output")


def call(
    kernels: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], hashes: tuple[int, int] = (5, 4), parallel=None
) -> torch.Tensor:
    return run_into_guarded(kernels, arguments(tensors, hashes), tensors[0], parallel)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_is_the_tables(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    seen = []
    for tokens, kind in itertools.product(LENGTHS, MASKS):
        tensors = cast(inputs(tokens, kind), dtype)
        found = check(call(kernels, tensors), tensors, (5, 4))
        if kind != "all padding":
            seen.append(found.rows)
    assert sum(seen) / len(seen) >= 0.98  # hardly any row is near a sign that may flip


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_head_size_hashes_and_code_length(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    counts = itertools.cycle(itertools.product((1, 2, 3), ((1, 1), (2, 16), (9, 5), (13, 2), (1, 10))))
    for size, _ in itertools.product((*HEAD_SIZES, 1, 3, 65), range(3)):
        heads, hashes = next(counts)
        tensors = cast(inputs(33, "right", heads, size, hashes, batch=1), dtype)
        check(call(kernels, tensors, hashes), tensors, hashes)


def test_full_size_hashes(kernels: ctypes.CDLL) -> None:
    """128 hashes; more heads than one wave; tables cleared whole and by row."""
    for tokens, hashes, heads in ((300, (128, 5), 2), (40, (20, 9), 7)):
        tensors = inputs(tokens, "left", heads, 20, hashes)
        check(call(kernels, tensors, hashes), tensors, hashes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_few_bits_agree_with_the_reference(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    for tokens, kind in itertools.product(LENGTHS, MASKS):
        tensors = cast(of_few_bits(inputs(tokens, kind)), dtype)
        check_policy(OP, call(kernels, tensors), tensors, {"num_heads": 2, "num_hash": 5, "hash_code_len": 4})


def test_every_hash_counts(kernels: ctypes.CDLL) -> None:
    """One sign of one hash of one head changed: the output differs."""
    tensors = inputs(65, hashes=(9, 4))
    before = call(kernels, tensors, (9, 4))
    for column in (0, 17, 35):
        changed = tensors[4].clone()
        changed[1, :, column] *= -1
        after = call(kernels, (*tensors[:3], tensors[3], changed), (9, 4))
        assert torch.equal(after, before)  # both codes flip the bit: who meets whom stays
        changed[1, :, column] = 0
        after = call(kernels, (*tensors[:4], changed), (9, 4))
        assert torch.equal(after[..., :16], before[..., :16])
        assert not torch.allclose(after[..., 16:], before[..., 16:], atol=1e-3)


def test_rows_may_lie_apart(kernels: ctypes.CDLL) -> None:
    tensors = inputs(40, "right")
    assert torch.equal(call(kernels, apart(tensors)), call(kernels, tensors))


def test_same_bits_for_any_threads(kernels: ctypes.CDLL) -> None:
    tensors = inputs(600, "right", 3, 20)
    check_same_bits(lambda parallel: call(kernels, tensors, (5, 4), parallel))


def test_zero_and_constant_rows_give_no_nan(kernels: ctypes.CDLL) -> None:
    rows, _, value, mask, projection = inputs(200)
    zero, one = torch.zeros_like(rows), torch.ones_like(rows)
    for query, key, v in ((zero, rows, value), (one, one, one), (zero, zero, zero)):
        assert call(kernels, (query, key, v, mask, projection)).isfinite().all()


def test_bad_arguments_are_refused_and_nothing_is_written(kernels: ctypes.CDLL) -> None:
    tensors, output = inputs(9), Guarded((3, 9, 32), torch.float32)
    good = arguments(tensors, (5, 4))
    good.output = Rows.of(output.tensor)
    for name, size in bad_sizes(SIZES):
        check_refused(kernels, set_field(good, name, size), output, f"{WORDS.get(name, name)}: got {size}")
    check_refused(kernels, set_field(good, "hash_code_len", 17), output, "hash_code_len")
    for name in POINTERS:
        check_refused(kernels, without(good, name), output, f"{name}: got a null pointer")
    for dtype in (-1, 3, 99):
        check_refused(kernels, set_field(good, "dtype", dtype), output, "dtype")
    for name, size in (("batch", 2**30), ("num_hash", 2**31 - 1)):
        product = set_field(set_field(good, "tokens", 2**30), name, size)
        check_refused(kernels, product, output, "expected at most")


def test_more_scratch_than_there_is(kernels: ctypes.CDLL) -> None:
    output = Guarded((3, 9, 32), torch.float32)
    huge = arguments(inputs(9), (5, 4))
    huge.output, huge.tokens, huge.num_hash = Rows.of(output.tensor), 2**24, 2**16
    code, message = c_abi.call(kernels, huge)
    assert (code, "no memory" in message) == (NO_MEMORY, True)
    assert output.untouched()
