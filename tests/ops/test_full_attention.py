"""lat::FullAttention: body against the float64 reference, reference against PyTorch's own attention."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from ops.convolved_inputs import HEADS, PADDINGS, WIDTH, inputs
from ops.references import check_by_policy, feeds, in_dtype
from ops.single_op_model import run, session, single_op_model
from torch.nn import functional

from lat_export.errors import ShapeError
from lat_export.ops import OPS

OP = OPS["FullAttention"]
ATTRIBUTES = {"num_heads": HEADS}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("taps", [1, 3, 65])
def test_body_is_the_reference(taps: int, padding: str) -> None:
    opened = session(single_op_model(OP.name, ATTRIBUTES))
    for tokens in (1, 2, 17, 96):
        tensors = inputs(tokens, padding, taps)
        check_by_policy(OP, run(opened, feeds(OP, tensors)), tensors, ATTRIBUTES, slack=1e-5)


def test_half_precision_storage() -> None:
    opened = session(single_op_model(OP.name, ATTRIBUTES, dtype=ir.DataType.FLOAT16))
    for padding in PADDINGS:
        tensors = in_dtype(inputs(41, padding), torch.float16)
        check_by_policy(OP, run(opened, feeds(OP, tensors)), tensors, ATTRIBUTES, slack=1e-2)


@pytest.mark.parametrize("padding", PADDINGS[:3])
def test_reference_is_pytorch_attention_and_convolution(padding: str) -> None:
    tensors = in_dtype(inputs(24, padding), torch.float64)
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
