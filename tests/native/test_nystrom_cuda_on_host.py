"""NystromAttention's CUDA kernels' own source on a device that the host plays (plugins/cuda_on_host)."""

from __future__ import annotations

import pytest
import torch
from native.cuda_abi import BAD_ARGUMENT, UNSUPPORTED, Device, Guarded
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.cuda_on_host import play
from native.kernel_checks import set_field
from native.nystrom_cuda_checks import MASKS, check_nystrom, nystrom_arguments, nystrom_inputs, run

from lat_export.ops.nystrom_attention import reference

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_head_size(dtype: torch.dtype, head_size: int, device: Device) -> None:
    for seed, (kind, tokens, landmarks, taps) in enumerate([("right", 192, 64, 65), ("left", 77, 7, 5)]):
        play(device, seed, seed)
        tensors = cast(nystrom_inputs(kind, tokens, taps, size=head_size, batch=1 + seed), dtype)
        check_nystrom(device, tensors, landmarks, seed)


@pytest.mark.parametrize(
    ("dtype", "landmarks"),
    [(dtype, landmarks) for dtype in (HALF, FULL) for landmarks in (1, 2, 63, 65, 128)] + [(BRAIN, 16), (BRAIN, 100)],
    ids=str,
)
def test_any_number_of_landmarks(dtype: torch.dtype, landmarks: int, device: Device) -> None:
    play(device, landmarks % 2, landmarks)
    tokens = landmarks * (2 if landmarks > 60 else 9)
    batch = 2 if landmarks <= 64 else 1
    check_nystrom(device, cast(nystrom_inputs("right", tokens, 3, 1, 32, batch), dtype), landmarks)


@pytest.mark.parametrize("dtype", [HALF, FULL], ids=str)
def test_more_than_64_landmarks_of_the_widest_heads(dtype: torch.dtype, device: Device) -> None:
    """The most shared memory that there is."""
    play(device, 1)
    check_nystrom(device, cast(nystrom_inputs("none", 256, 9, 1, 128, 1), dtype), 128)


@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind: str, device: Device) -> None:
    """Several segments of keys, whole ones of padding among them; as many landmarks as tokens."""
    for dtype in (HALF, FULL):
        play(device, 1)
        tensors = nystrom_inputs(kind, 704, 3, 1, 16)
        if kind == "left":
            tensors[3][1, :600] = 0
        check_nystrom(device, cast(tensors, dtype), 8, 1)
    check_nystrom(device, cast(nystrom_inputs(kind, 40, 3, 1, 32, 2), BRAIN), 40, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lengths(dtype: torch.dtype, device: Device) -> None:
    """Rows that end early; blocks of rows that a block of threads takes one after the other."""
    for tokens in (1, 2, 63, 65, 129, 191):
        play(device, tokens % 2, tokens)
        check_nystrom(device, cast(nystrom_inputs("none", tokens, 65, 1, 32, 1), dtype), 1)
    for seed, size in enumerate((16, 64, 128)):
        play(device, 1, seed)
        check_nystrom(device, cast(nystrom_inputs("none", 392, 65, 1, size, 1), dtype), 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_segments_of_several_tiles(dtype: torch.dtype, device: Device) -> None:
    """All warps read what all have copied."""
    play(device, 1)
    check_nystrom(device, cast(nystrom_inputs("right", 1600, 3, 1, 32, 1), dtype), 64)


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, layout: str, device: Device) -> None:
    play(device, 1)
    check_nystrom(device, cast(nystrom_inputs("right", 90, 5, 3, 32), dtype), 10, 0, layout)
    check_nystrom(device, cast(nystrom_inputs("right", 90, 5, 3, 32), dtype), 10, 0, offset=dtype.itemsize)


@pytest.mark.parametrize("head_size", [32, 128])
@pytest.mark.parametrize("dtype", [HALF, FULL], ids=str)
def test_taps(dtype: torch.dtype, head_size: int, device: Device) -> None:
    """More than the sequence is long, more than lie in shared memory at once, and none. One landmark: of few, the
    inverse makes more of chance than the convolution of mistakes."""
    for tokens, taps in ((70, 1), (130, 129), (4, 1001), (330, 1201), (600, 513)):
        play(device, taps % 4 == 1, taps)
        check_nystrom(device, cast(nystrom_inputs("none", tokens, taps, 1, head_size, 1), dtype), 1)
    check_nystrom(device, cast(nystrom_inputs("left", 70, 3, 1, head_size), dtype), 10, convolution=False)


def test_batch_start_couples_rows_and_head_start_does_not(device: Device) -> None:
    play(device, 1)
    for dtype in (HALF, FULL):
        tensors = cast(nystrom_inputs("none", 64, 3, 1, 16, 2), dtype)
        for per_head_init, coupled in ((0, True), (1, False)):
            together = run(device, tensors, 16, per_head_init)
            alone = [run(device, (*(t[b : b + 1] for t in tensors[:4]), tensors[4]), 16, per_head_init) for b in (0, 1)]
            assert torch.equal(together, torch.cat(alone)) != coupled


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_nan(dtype: torch.dtype, device: Device) -> None:
    """Zeros, equal rows, scores of thousands; and values near both ends of float16."""
    play(device, 1)
    rows, _, value, mask, weight = cast(nystrom_inputs("right", 80, 3, 1, 32, 1), dtype)
    one, zero = torch.ones_like(rows), torch.zeros_like(rows)
    for query, key, values in (
        (zero, zero, zero),
        (one, one, one),
        (200 * one, -200 * one, value),
        (rows, rows, 6e4 * one),
        (rows, rows, 6e-8 * one),
        (40 * rows, 40 * rows, value),
    ):
        output = run(device, (query, key, values, mask, torch.zeros_like(weight)), 8)
        assert output.isfinite().all()
    large = run(device, (rows, rows, 3e4 * one, mask, torch.zeros_like(weight)), 8)
    expected = reference(rows, rows, 3e4 * one, mask, 0 * weight, num_heads=1, num_landmarks=8, per_head_init=0)
    assert torch.allclose(large, expected, rtol=0.02 if dtype == torch.bfloat16 else 2e-3)


def test_same_bits_whatever_the_order_and_the_workspace(device: Device) -> None:
    for dtype in (HALF, FULL):
        tensors = cast(nystrom_inputs("right", 384, 65, 1, 16, 1), dtype)
        first = run(device, tensors, 16)
        for seed, poison in enumerate((0, 0x3C)):
            play(device, seed % 2, seed)
            assert torch.equal(run(device, tensors, 16, poison=poison), first)


def test_workspace_never_shrinks(device: Device) -> None:
    """TensorRT asks once, for the largest sizes of a profile."""
    made = nystrom_arguments(nystrom_inputs("none", 64, 3, 12, 16), 64)
    for name, count, step in (("batch", 200, 1), ("tokens", 16384, 64)):
        before = 0
        for size in range(step, count + step, step):
            bytes_ = device.workspace_bytes(set_field(made, name, size))
            assert bytes_ >= before
            before = bytes_


def test_refusals(device: Device) -> None:
    tensors = nystrom_inputs("none", 260, 3, 2, 16)
    workspace = Guarded("cpu", device.workspace_bytes(nystrom_arguments(tensors, 10)))
    for made, code, message in (
        (nystrom_arguments(tensors, 130), UNSUPPORTED, "num_landmarks: got L=130, expected at most 128"),
        (nystrom_arguments(tensors, 7), BAD_ARGUMENT, "num_landmarks: got N=260, L=7, expected N % L == 0"),
        (set_field(nystrom_arguments(tensors, 10), "num_heads", 4), UNSUPPORTED, "got D=8, expected 16, 32, 64 or 128"),
        (set_field(nystrom_arguments(tensors, 10), "taps", 4), BAD_ARGUMENT, "taps: got K=4, expected an odd number"),
        (set_field(nystrom_arguments(tensors, 10), "per_head_init", 2), BAD_ARGUMENT, "per_head_init: got 2"),
        (set_field(nystrom_arguments(tensors, 10), "attention_mask", None), BAD_ARGUMENT, "attention_mask: got a null"),
    ):
        made.output = made.query
        got, said = device.enqueue(made, workspace.data.data_ptr())
        assert (got, message in said) == (code, True), said
    workspace.check()
