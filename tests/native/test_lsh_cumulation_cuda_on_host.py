"""lat::LshCumulation's CUDA kernels' own source on a device that the host plays (plugins/cuda_on_host): threads in an
order drawn at random, copies at once and as late as their wait allows."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import c_int32

import pytest
import torch
from native.c_abi import Rows
from native.cuda_abi import BAD_ARGUMENT, OK, UNSUPPORTED, Device, Guarded
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_host import play
from native.kernel_checks import set_field
from native.lsh_cumulation_checks import arguments
from native.lsh_cumulation_cuda_checks import (
    KINDS,
    check_cuda,
    check_exact,
    check_long_runs,
    check_meets_itself,
    cuda_inputs,
    run,
)

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
SM_86, SM_90 = 99 * 1024, 227 * 1024  # shared memory of a block of threads


def give_shared_memory(device: Device, count: int) -> None:
    device.library.lat_on_host_shared_memory(c_int32(count))


@pytest.fixture(autouse=True)
def small_device(device: Device) -> Iterator[None]:
    give_shared_memory(device, SM_86)
    yield
    give_shared_memory(device, SM_86)


@pytest.mark.parametrize("late_copies", [0, 1])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tables(dtype: torch.dtype, head_size: int, late_copies: int, device: Device) -> None:
    """More than one chunk of columns; codes across words; slices of 32 columns or fewer."""
    play(device, late_copies, head_size)
    tensors = cast(cuda_inputs("right", 150, 1, head_size, (13, 7), batch=1), dtype)
    assert check_cuda(device, tensors, (13, 7)).rows >= 0.9
    check_exact(device, cuda_inputs("left", 67, 2, head_size, (3, 5), batch=2), (3, 5), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_masks(kind: str, device: Device) -> None:
    for tokens in (1, 33, 130):
        play(device, 1, tokens)
        check_cuda(device, cast(cuda_inputs(kind, tokens, 2, 16, (3, 4)), HALF), (3, 4))


@pytest.mark.parametrize("hashes", [(1, 1), (128, 2), (2, 8), (3, 9), (2, 10), (2, 11), (2, 12)], ids=str)
def test_hashes_and_code_lengths(hashes: tuple[int, int], device: Device) -> None:
    """Slices of 32, 16, 8 and 4 columns, and tables one by one."""
    play(device, 1, hashes[1])
    check_exact(device, cuda_inputs("right", 70, 1, 32, hashes, batch=1), hashes, HALF)


@pytest.mark.parametrize(("dtype", "shared_memory"), [(HALF, SM_86), (FULL, SM_90)], ids=str)
def test_tables_at_once(dtype: torch.dtype, shared_memory: int, device: Device) -> None:
    """Sums that go through memory between one few tables and the next; many heads, so that a share has 7 hashes."""
    give_shared_memory(device, shared_memory)
    play(device, 0, shared_memory)
    check_cuda(device, cast(cuda_inputs("right", 40, 65, 16, (7, 9), batch=1), dtype), (7, 9))


@pytest.mark.parametrize("layout", ["slices", "odd", "odd values"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, layout: str, device: Device) -> None:
    for hashes in ((4, 4), (5, 3)):
        play(device, 1)
        check_cuda(device, cast(cuda_inputs("right", 70, 2, 32, hashes, batch=2), dtype), hashes, layout, offset=0)
    tensors = cast(cuda_inputs("right", 70, 2, 32, (4, 4), batch=1), dtype)
    check_cuda(device, tensors, (4, 4), layout, offset=dtype.itemsize)


@pytest.mark.parametrize("alike", [0.5, 1.0])
def test_long_runs(alike: float, device: Device) -> None:
    play(device, 1)
    for tokens in (700, 1029):
        check_long_runs(device, cast(cuda_inputs("right", tokens, 1, 16, (3, 6), batch=1), HALF), (3, 6), alike)


def test_a_list_that_is_not_staged(device: Device) -> None:
    play(device, 1)
    check_exact(device, cuda_inputs("left", 8300, 1, 16, (2, 3), batch=1), (2, 3), BRAIN)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_token_meets_itself(dtype: torch.dtype, device: Device) -> None:
    play(device, 1)
    check_meets_itself(device, dtype, 100, (16, 3))


def test_the_order_of_threads_changes_nothing(device: Device) -> None:
    tensors = cast(cuda_inputs("right", 300, 1, 32, (4, 5), batch=1), HALF)
    play(device, 1, 1)
    first = run(device, tensors, (4, 5))
    for seed, poison in ((2, 0), (3, 0x3C), (4, 0x7F)):
        play(device, seed % 2, seed)
        assert torch.equal(run(device, tensors, (4, 5), poison=poison), first)


def test_more_batch_needs_no_less_workspace(device: Device) -> None:
    """TensorRT asks for its profile's maximum alone."""
    for heads, hashes in ((1, (1, 4)), (7, (2, 9)), (12, (64, 9)), (10, (3, 5))):
        good = arguments(cuda_inputs("none", 9, heads, 64, hashes, batch=1), hashes)
        sizes = [device.workspace_bytes(set_field(good, "batch", batch)) for batch in range(1, 70)]
        assert sizes == sorted(sizes)


def test_refusals(device: Device) -> None:
    tensors = cuda_inputs("none", 9, 2, 16, (5, 4))
    good = arguments(tensors, (5, 4))
    output = torch.empty_like(tensors[0])
    good.output = Rows.of(output)
    workspace = Guarded("cpu", device.workspace_bytes(good))
    address = workspace.data.data_ptr()
    assert device.enqueue(good, address)[0] == OK
    for name, value, code, words in (
        ("num_heads", 4, UNSUPPORTED, "D=8"),
        ("hash_code_len", 13, UNSUPPORTED, "hash_code_len: got T=13, expected 1 to 12"),
        ("hash_code_len", 17, BAD_ARGUMENT, "hash_code_len: got 17, expected 1 to 16"),
        ("num_hash", 129, UNSUPPORTED, "num_hash: got R=129, expected 1 to 128"),
        ("num_hash", 0, BAD_ARGUMENT, "num_hash: got 0"),
        ("projection", None, BAD_ARGUMENT, "projection: got a null pointer"),
        ("attention_mask", None, BAD_ARGUMENT, "attention_mask: got a null pointer"),
    ):
        refused, message = device.enqueue(set_field(good, name, value), address)
        assert (refused, words in message) == (code, True), message
    refused, message = device.enqueue(good, address + 16)
    assert (refused, message.startswith("workspace: got ")) == (BAD_ARGUMENT, True)
