"""LshCumulation's CUDA kernels against the float64 reference, on a machine with an NVIDIA GPU: make gpu-test."""

from __future__ import annotations

import pytest
import torch
from native import cuda_on_gpu
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_gpu import SMALL, Call, check_graph, check_refusals, check_same_bits
from native.kernel_checks import token_mask
from native.lsh_cumulation_checks import arguments
from native.lsh_cumulation_cuda_checks import (
    KINDS,
    check_cuda,
    check_exact,
    check_long_runs,
    check_meets_itself,
    cuda_inputs,
)

pytestmark = cuda_on_gpu.MARKS
device = cuda_on_gpu.device  # the fixture

OPS = ("lsh_cumulation",)
LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)
HASHES = ((1, 1), (5, 9)) if SMALL else ((1, 1), (5, 4), (128, 3), (13, 7), (20, 8), (64, 9), (3, 10), (2, 11), (9, 12))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_tables(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    seen = []
    for tokens in LENGTHS:
        tensors = cast(cuda_inputs(kind, tokens, 2, head_size, (5, 6)), dtype)
        seen.append(check_cuda(device, tensors, (5, 6)).rows)
    assert kind == "all padding" or sum(seen) / len(seen) >= 0.9


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hashes", HASHES, ids=str)
def test_hashes_and_code_lengths(hashes: tuple[int, int], dtype: torch.dtype, head_size: int, device: Device) -> None:
    """Numbers of few bits: every row is judged."""
    for tokens in (65, 200) if SMALL else (1, 129, 1000):
        for kind in ("right", "any kind"):
            check_exact(device, cuda_inputs(kind, tokens, 2, head_size, hashes), hashes, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_in_a_model(dtype: torch.dtype, device: Device) -> None:
    """64 hashes of 9 bits, 12 heads; then more heads than blocks, so that every block has all hashes."""
    for heads, tokens, hashes in ((12, 100, (8, 9)),) if SMALL else ((12, 1500, (64, 9)), (160, 300, (16, 9))):
        tensors = cast(cuda_inputs("right", tokens, heads, 64, hashes, batch=2), dtype)
        check_cuda(device, tensors, hashes)
        check_exact(device, tensors, hashes, dtype)


@pytest.mark.parametrize("layout", ["slices", "odd", "odd values"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    for hashes in ((8, 7), (5, 3)):
        tensors = cast(cuda_inputs("right", 200, 3, head_size, hashes), dtype)
        check_cuda(device, tensors, hashes, layout)
        check_cuda(device, tensors, hashes, layout, offset=dtype.itemsize)


@pytest.mark.parametrize("alike", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_runs(dtype: torch.dtype, alike: float, device: Device) -> None:
    for tokens in LENGTHS[-3:]:
        check_long_runs(device, cast(cuda_inputs("right", tokens, 2, 64, (8, 9)), dtype), (8, 9), alike)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long(dtype: torch.dtype, device: Device) -> None:
    """Lists that are not staged in shared memory."""
    tokens = 8200 if SMALL else 20000
    for hashes in ((2, 9), (2, 12)):
        check_exact(device, cuda_inputs("left", tokens, 1, 64, hashes, batch=2), hashes, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    check_exact(device, cuda_inputs("right", 3, 40000, 16, (2, 3), batch=1), (2, 3), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_token_meets_itself(dtype: torch.dtype, device: Device) -> None:
    # More hashes than bfloat16 can count.
    for hashes in ((16, 3),) if dtype == torch.bfloat16 else ((16, 3), (64, 4), (128, 2)):
        check_meets_itself(device, dtype, 128, hashes)


def call(dtype: torch.dtype, tokens: int = 700) -> Call:
    return Call(cast(cuda_inputs("right", tokens, 4, 64, (16, 9)), dtype), lambda rows: arguments(rows, (16, 9)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, device: Device) -> None:
    for _ in range(3):
        check_same_bits(device, call(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_inputs(dtype: torch.dtype, device: Device) -> None:
    made = call(dtype)
    check_graph(device, made, {kind: token_mask(kind, *made.mask.shape) for kind in KINDS if kind != "any kind"})


def test_refusals(device: Device) -> None:
    limits = (("hash_code_len", 13, "hash_code_len: got T=13"), ("num_hash", 129, "num_hash: got R=129"))
    check_refusals(device, call(torch.float16), *limits)
