"""lat::FullAttention: body against the float64 reference, reference against PyTorch's own attention."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from ops.single_op_model import run, session, single_op_model
from torch.nn import functional

from lat_export.errors import ShapeError
from lat_export.ops import OPS

OP = OPS["FullAttention"]
HEADS, WIDTH = 2, 32
PADDINGS = ("none", "right", "left", "one row all padding")


def inputs(tokens: int, padding: str = "none", taps: int = 3, batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(tokens + taps)
    rows = [torch.randn(batch, tokens, WIDTH, generator=generator) * 1.5 for _ in range(3)]
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        lost = tokens * (row + 1) // 5
        if padding == "right":
            mask[row, tokens - lost :] = 0
        elif padding == "left":
            mask[row, :lost] = 0
    if padding == "one row all padding":
        mask[-1] = 0
    return (*rows, mask, torch.randn(HEADS, taps, generator=generator) * 0.3)


def feeds(tensors: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    return {port.name: tensor.numpy() for port, tensor in zip(OP.inputs, tensors, strict=True)}


def exact(tensors: tuple[torch.Tensor, ...]) -> np.ndarray:
    return OP(*(t.double() if t.is_floating_point() else t for t in tensors), num_heads=HEADS).numpy()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("taps", [1, 3, 65])
def test_body_is_the_reference(taps: int, padding: str) -> None:
    """At most twice the error of plain PyTorch in float32, against float64."""
    opened = session(single_op_model(OP.name, {"num_heads": HEADS}))
    for tokens in (1, 2, 17, 96):
        tensors = inputs(tokens, padding, taps)
        reference = exact(tensors)
        naive_error = np.abs(OP(*tensors, num_heads=HEADS).numpy() - reference).max()
        output = run(opened, feeds(tensors))
        assert np.isfinite(output).all()
        assert np.abs(output - reference).max() <= 2 * naive_error + 1e-5 * np.abs(reference).max()


def test_half_precision_storage() -> None:
    opened = session(single_op_model(OP.name, {"num_heads": HEADS}, dtype=ir.DataType.FLOAT16))
    for padding in PADDINGS:
        tensors = tuple(t.half() if t.is_floating_point() else t for t in inputs(41, padding))
        reference = exact(tensors)
        naive_error = np.abs(OP(*tensors, num_heads=HEADS).numpy() - reference).max()
        output = run(opened, feeds(tensors)).astype(np.float64)
        assert np.abs(output - reference).max() <= 2 * naive_error + 1e-2 * np.abs(reference).max()


@pytest.mark.parametrize("padding", PADDINGS[:3])
def test_reference_is_pytorch_attention_and_convolution(padding: str) -> None:
    tensors = [t.double() if t.is_floating_point() else t for t in inputs(24, padding)]
    query, key, value, mask, taps = tensors
    output = OP(*tensors, num_heads=HEADS)
    size = WIDTH // HEADS
    for row in range(3):
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            q, k, v = (t[row : row + 1, None, :, part] for t in (query, key, value))
            wanted = functional.scaled_dot_product_attention(q, k, v, attn_mask=(mask[row] != 0)[None, None, None])
            padded = functional.pad(v[0, 0], (0, 0, 1, 1))
            convolved = sum(taps[head, tap] * padded[tap : tap + 24] for tap in range(3))
            torch.testing.assert_close(output[row, :, part], wanted[0, 0] + convolved, rtol=1e-12, atol=1e-12)


def test_without_a_token_every_row_is_the_mean() -> None:
    query, key, value, mask, taps = inputs(11, "one row all padding")
    output = OP(query, key, value, mask, torch.zeros_like(taps), num_heads=HEADS)
    torch.testing.assert_close(output[-1], value[-1].mean(0, keepdim=True).expand(11, -1), rtol=1e-5, atol=1e-5)


def test_even_taps_are_refused() -> None:
    with pytest.raises(ShapeError, match="odd number of taps"):
        OP(*inputs(40, taps=4), num_heads=HEADS)
