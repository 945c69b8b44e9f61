"""The CUDA kernels' own source on a device that the host plays (plugins/cuda_on_host): threads in an order drawn at
random, copies at once and as late as their wait allows. Memory, barriers and fragments are the kernels'; speed and the
compiler for the GPU are not."""

from __future__ import annotations

import pytest
import torch
from native.c_abi import banded_arguments
from native.cuda_abi import BAD_ARGUMENT, Device
from native.cuda_checks import HEAD_SIZES, cast
from native.cuda_on_host import play
from native.longformer_cuda_checks import (
    banded_attributes,
    banded_inputs,
    check_banded,
    check_global,
    global_inputs,
)
from native.tf32_checks import check_each_rounding, check_exact_off_16_bytes, check_tf32, run_tf32

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize("late_copies", [0, 1])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", [HALF, BRAIN, FULL], ids=str)
def test_banded(dtype: torch.dtype, head_size: int, late_copies: int, device: Device) -> None:
    for seed, (kind, tokens, window) in enumerate(
        [("no kind", 200, 30), ("scattered", 150, 64), ("left padding", 65, 2**31 - 1), ("plain", 1, 1)]
    ):
        play(device, late_copies, seed)
        check_banded(device, cast(banded_inputs(kind, tokens, 2, head_size), dtype), banded_attributes(2, window))


@pytest.mark.parametrize("kind", ["first global", "all global", "right padding", "half global"])
def test_banded_masks(kind: str, device: Device) -> None:
    for tokens, window in ((63, 5), (129, 100), (260, 16), (400, 70)):
        play(device, 1, tokens)
        check_banded(device, cast(banded_inputs(kind, tokens, 1, 64), HALF), banded_attributes(1, window))


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("dtype", [HALF, BRAIN, FULL], ids=str)
def test_banded_layouts(dtype: torch.dtype, layout: str, device: Device) -> None:
    play(device, 1)
    check_banded(device, cast(banded_inputs("scattered", 90, 3, 32), dtype), banded_attributes(3, 20), layout)


@pytest.mark.parametrize("late_copies", [0, 1])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
def test_banded_in_tf32(head_size: int, late_copies: int, device: Device) -> None:
    for seed, (kind, tokens, window) in enumerate(
        [("no kind", 200, 30), ("scattered", 150, 64), ("left padding", 65, 2**31 - 1), ("plain", 1, 1)]
    ):
        play(device, late_copies, seed)
        check_tf32(device, banded_inputs(kind, tokens, 2, head_size), banded_attributes(2, window))


@pytest.mark.parametrize("kind", ["first global", "all global", "right padding", "half global"])
def test_banded_masks_in_tf32(kind: str, device: Device) -> None:
    for tokens, window in ((63, 5), (129, 100), (260, 16)):
        play(device, 1, tokens)
        check_tf32(device, banded_inputs(kind, tokens, 1, 64), banded_attributes(1, window))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
def test_each_operand_is_rounded_to_tf32(head_size: int, device: Device) -> None:
    query, key, value, mask = banded_inputs("plain", 32, 3, head_size)
    mask[1, 20:] = 0
    for window in (100, 9):
        play(device, 1, window)
        check_each_rounding(device, (query, key, value, mask), banded_attributes(3, window))


def test_tf32_is_not_taken_for_float32(device: Device) -> None:
    """Where it is not asked for float32 is as exact as plain PyTorch's; the check of that tells the two apart."""
    play(device, 0)
    tensors, attributes = banded_inputs("scattered", 90, 2, 64), banded_attributes(2, 20)
    check_banded(device, tensors, attributes)
    check_banded(device, tensors, attributes | {"allow_tf32": 0})
    with pytest.raises(AssertionError, match="of plain PyTorch"):
        check_banded(device, tensors, attributes | {"allow_tf32": 1})


def test_tf32_needs_rows_on_16_bytes_and_float32(device: Device) -> None:
    """Slices of longer rows lie on 16 bytes; other rows, and 16-bit types, are computed as without it."""
    play(device, 1)
    tensors, attributes = banded_inputs("scattered", 90, 3, 32), banded_attributes(3, 20)
    check_tf32(device, tensors, attributes, "slices")
    check_exact_off_16_bytes(device, tensors, attributes)
    for dtype in (HALF, BRAIN):
        with_it = run_tf32(device, cast(tensors, dtype), attributes)
        assert torch.equal(with_it, run_tf32(device, cast(tensors, dtype), attributes, allow=0))


def test_tf32_gives_the_same_bits(device: Device) -> None:
    for head_size in (64, 128):
        tensors, attributes = banded_inputs("scattered", 150, 2, head_size), banded_attributes(2, 40)
        play(device, 0, 1)
        first = run_tf32(device, tensors, attributes)
        for late_copies, seed, poison in ((1, 2, 0), (0, 3, 0x7F), (1, 4, 0x3C)):
            play(device, late_copies, seed)
            assert torch.equal(run_tf32(device, tensors, attributes, poison=poison), first)


@pytest.mark.parametrize("value", [2, -1])
def test_allow_tf32_is_0_or_1(value: int, device: Device) -> None:
    for dtype in (FULL, HALF):
        tensors = cast(banded_inputs("plain", 5, 1, 16, batch=1), dtype)
        output = torch.full_like(tensors[0], 7.0)
        arguments = banded_arguments(tensors, output, banded_attributes(1, 2) | {"allow_tf32": value})
        code, message = device.enqueue(arguments, 0)
        assert (code, message) == (BAD_ARGUMENT, f"allow_tf32: got {value}, expected 0 to 1")
        assert (output == 7).all()


@pytest.mark.parametrize("late_copies", [0, 1])
@pytest.mark.parametrize("dtype", [HALF, BRAIN, FULL], ids=str)
def test_global(dtype: torch.dtype, late_copies: int, device: Device) -> None:
    """Globals for probes alone, for projections alone, and both in one call; none."""
    for heads, head_size, tokens, kind, form in (
        (2, 32, 150, "scattered", 0),
        (2, 32, 150, "scattered", 2),
        (3, 16, 70, "half global", 0),
        (1, 128, 130, "all global", 0),
        (2, 64, 40, "plain", 0),
    ):
        play(device, late_copies, tokens)
        tensors = cast(global_inputs(kind, tokens, heads, head_size), dtype)
        check_global(device, tensors, {"num_heads": heads, "scale": 0.3}, form)


def test_global_with_more_heads_than_probes(device: Device) -> None:
    play(device, 1)
    check_global(
        device, cast(global_inputs("first global", 3, 66, 16, batch=1), HALF), {"num_heads": 66, "scale": 1.0}, 0
    )


def test_global_off_16_bytes(device: Device) -> None:
    play(device, 0)
    tensors = cast(global_inputs("scattered", 100, 2, 16), HALF)
    for form in (0, 2):
        check_global(device, tensors, {"num_heads": 2, "scale": 0.2}, form, odd=True)
        check_global(device, tensors, {"num_heads": 2, "scale": 0.2}, form, offset=2)
