"""CUDA kernels of both Longformer ops against the float64 reference, on a machine with an NVIDIA GPU: make gpu-test."""

from __future__ import annotations

import pytest
import torch
from native import cuda_on_gpu
from native.c_abi import banded_arguments, global_arguments
from native.cuda_abi import Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_gpu import SMALL, Call, check_graph, check_refusals, check_same_bits
from native.longformer_cuda_checks import (
    MASKS,
    banded_attributes,
    banded_inputs,
    check_banded,
    check_global,
    global_inputs,
    token_mask,
)

pytestmark = cuda_on_gpu.MARKS
device = cuda_on_gpu.device  # the fixture

OPS = ("banded_window_attention", "global_token_attention")
LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)
WINDOWS = (1, 100, 2**31 - 1) if SMALL else (1, 16, 63, 64, 65, 100, 256, 2**31 - 1)


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_banded(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens in LENGTHS:
        tensors = cast(banded_inputs(kind, tokens, 2, head_size), dtype)
        for window in WINDOWS:
            check_banded(device, tensors, banded_attributes(2, window))


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    tensors = cast(banded_inputs("scattered", 200, 3, head_size), dtype)
    check_banded(device, tensors, banded_attributes(3, 50), layout)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    tensors = cast(banded_inputs("first global", 3, 40000, 16, batch=2), dtype)
    check_banded(device, tensors, banded_attributes(40000, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_long(dtype: torch.dtype, device: Device) -> None:
    """A list of more than one round, globals far away."""
    tensors = cast(banded_inputs("scattered", 300 if SMALL else 9000, 1, 64, batch=2), dtype)
    check_banded(device, tensors, banded_attributes(1, 256))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_global(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    for tokens in LENGTHS[:11]:
        for form in (0, 2):
            tensors = cast(global_inputs(kind, tokens, 3, head_size), dtype)
            check_global(device, tensors, {"num_heads": 3, "scale": 0.4}, form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_as_in_a_model(dtype: torch.dtype, device: Device) -> None:
    """Rows with 3, 43 and 83 globals: probes and full projections in one call; then more heads than probes."""
    for heads, head_size, tokens in ((12, 64, 300 if SMALL else 1500), (80, 16, 200)):
        tensors = cast(global_inputs("scattered", tokens, heads, head_size), dtype)
        for form in (0, 1, 2):
            check_global(device, tensors, {"num_heads": heads, "scale": 0.125}, form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_off_16_bytes(dtype: torch.dtype, device: Device) -> None:
    tensors = cast(global_inputs("scattered", 200, 2, 32), dtype)
    for form in (0, 2):
        check_global(device, tensors, {"num_heads": 2, "scale": 0.2}, form, odd=True)
        check_global(device, tensors, {"num_heads": 2, "scale": 0.2}, form, offset=dtype.itemsize)


def call(name: str, dtype: torch.dtype, tokens: int = 700) -> Call:
    make = banded_inputs if name == "banded" else global_inputs
    tensors = cast(make("scattered", tokens, 4, 64), dtype)
    if name == "banded":
        return Call(tensors, lambda rows: banded_arguments(rows, rows[0], banded_attributes(4, 100)))
    return Call(tensors, lambda rows: global_arguments(rows, rows[0], {"num_heads": 4, "scale": 0.125}), mask=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["banded", "global"])
def test_same_inputs_give_the_same_bits(name: str, dtype: torch.dtype, device: Device) -> None:
    check_same_bits(device, call(name, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["banded", "global"])
def test_a_graph_is_replayed_with_other_inputs(name: str, dtype: torch.dtype, device: Device) -> None:
    made = call(name, dtype)
    check_graph(device, made, {kind: token_mask(kind, *made.mask.shape, seed=3) for kind in MASKS})


@pytest.mark.parametrize("name", ["banded", "global"])
def test_refusals(name: str, device: Device) -> None:
    check_refusals(device, call(name, torch.float16))
