"""The CUDA kernels' own source on a device that the host plays (plugins/cuda_on_host): threads in an order drawn at
random, copies at once and as late as their wait allows. Memory, barriers and fragments are the kernels'; speed and the
compiler for the GPU are not."""

from __future__ import annotations

import pytest
import torch
from native.cuda_abi import Device
from native.cuda_checks import HEAD_SIZES, cast
from native.cuda_on_host import play
from native.longformer_cuda_checks import (
    banded_attributes,
    banded_inputs,
    check_banded,
    check_global,
    global_inputs,
)

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
