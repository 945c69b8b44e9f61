"""CUDA kernels of both Longformer ops against the float64 reference, on a machine with an NVIDIA GPU: make gpu-test."""

from __future__ import annotations

import pytest
import torch
from native import cuda_on_gpu
from native.c_abi import banded_arguments, global_arguments
from native.cuda_abi import BAD_ARGUMENT, Device
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_gpu import SMALL, Call, check_graph, check_refusals, check_same_bits
from native.kernel_checks import set_field
from native.longformer_cuda_checks import (
    MASKS,
    banded_attributes,
    banded_inputs,
    check_banded,
    check_global,
    global_inputs,
    token_mask,
)
from native.tf32_checks import check_each_rounding, check_exact_off_16_bytes, check_tf32, run_tf32

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


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("kind", MASKS)
def test_banded_in_tf32(kind: str, head_size: int, device: Device) -> None:
    for tokens in LENGTHS:
        tensors = banded_inputs(kind, tokens, 2, head_size)
        for window in WINDOWS:
            check_tf32(device, tensors, banded_attributes(2, window))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
def test_each_operand_is_rounded_to_tf32(head_size: int, device: Device) -> None:
    check_each_rounding(device, banded_inputs("plain", 32, 3, head_size), banded_attributes(3, 9))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
def test_banded_layouts_in_tf32(head_size: int, device: Device) -> None:
    """Rows off 16 bytes, and 16-bit types, are computed as without it."""
    tensors, attributes = banded_inputs("scattered", 200, 3, head_size), banded_attributes(3, 50)
    check_tf32(device, tensors, attributes, "slices")
    check_exact_off_16_bytes(device, tensors, attributes)
    for dtype, layout in ((torch.float16, "without gaps"), (torch.bfloat16, "slices")):
        with_it = run_tf32(device, cast(tensors, dtype), attributes, layout)
        assert torch.equal(with_it, run_tf32(device, cast(tensors, dtype), attributes, layout, allow=0))
    with pytest.raises(AssertionError, match="of plain PyTorch"):
        check_banded(device, tensors, attributes | {"allow_tf32": 1})


def test_banded_long_in_tf32(device: Device) -> None:
    tensors = banded_inputs("scattered", 300 if SMALL else 4000, 1, 64, batch=2)
    check_tf32(device, tensors, banded_attributes(1, 256))


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
    make = global_inputs if name == "global" else banded_inputs
    tensors = cast(make("scattered", tokens, 4, 64), dtype)
    if name != "global":
        attributes = banded_attributes(4, 100) | {"allow_tf32": int(name == "banded in TF32")}
        return Call(tensors, lambda rows: banded_arguments(rows, rows[0], attributes))
    return Call(tensors, lambda rows: global_arguments(rows, rows[0], {"num_heads": 4, "scale": 0.125}), mask=1)


CALLS = [(name, dtype) for name in ("banded", "global") for dtype in DTYPES] + [("banded in TF32", torch.float32)]


@pytest.mark.parametrize(("name", "dtype"), CALLS, ids=str)
def test_same_inputs_give_the_same_bits(name: str, dtype: torch.dtype, device: Device) -> None:
    check_same_bits(device, call(name, dtype))


@pytest.mark.parametrize(("name", "dtype"), CALLS, ids=str)
def test_a_graph_is_replayed_with_other_inputs(name: str, dtype: torch.dtype, device: Device) -> None:
    made = call(name, dtype)
    check_graph(device, made, {kind: token_mask(kind, *made.mask.shape, seed=3) for kind in MASKS})


@pytest.mark.parametrize("name", ["banded", "global"])
def test_refusals(name: str, device: Device) -> None:
    check_refusals(device, call(name, torch.float16))


@pytest.mark.parametrize("value", [2, -1])
def test_allow_tf32_is_0_or_1(value: int, device: Device) -> None:
    code, message = device.enqueue(set_field(call("banded", torch.float32).arguments, "allow_tf32", value), 0)
    assert (code, message) == (BAD_ARGUMENT, f"allow_tf32: got {value}, expected 0 to 1")
