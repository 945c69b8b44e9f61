"""lat::FullAttention: softmax attention of every row to every token, plus a depthwise convolution of the values.

Source: transformers NystromformerSelfAttention where num_landmarks == segment_means_seq_len. An op of its own for the
native forms, which never hold N x N weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds, heads_divide_width
from lat_export.ops.heads import Heads
from lat_export.ops.onnx_types import FLOAT32
from lat_export.ops.token_mask import MASKED_SCORE, PADDING, mask_equals
from lat_export.ops.torch_heads import scaled_heads, split_heads
from lat_export.ops.value_convolution import convolution, convolution_body, taps_are_odd

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    conv_weight: torch.Tensor,
    *,
    num_heads: int,
) -> torch.Tensor:
    """Dense, O(N^2).

    Args:
        query: (B, N, E), not yet scaled; float32, float16, bfloat16 or float64.
        key: (B, N, E).
        value: (B, N, E).
        attention_mask: (B, N) int32: 0 padding, else token.
        conv_weight: (H, K), K odd: taps of the convolution of each head over N; zeros for none.
        num_heads: H; scores are scaled by D^-1/2.
    Returns:
        (B, N, E), dtype of query. A padded row is computed like any other; without a single token in its row of the
        batch, every row is the mean of all values.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    q, k, v = scaled_heads(query, num_heads), scaled_heads(key, num_heads), split_heads(value, num_heads)
    scores = (q @ k.mT).to(accumulate).masked_fill((attention_mask == PADDING)[:, None, None, :], MASKED_SCORE)
    context = (scores.softmax(-1) @ v.to(accumulate)).to(v.dtype) + convolution(v, conv_weight)
    rows: torch.Tensor = context.transpose(1, 2).flatten(2)
    return rows


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """O(N^2) time and memory: the weights of every pair; native forms tile."""
    query, key, value, mask, conv_weight = op.inputs
    heads = Heads(op, query, mask)
    scale = op.CastLike(op.Pow(op.Cast(heads.head_size, to=FLOAT32), -0.25), query)
    q, v = op.Mul(heads.split(query), scale), heads.split(value)
    k = op.Mul(heads.split(key, perm=(0, 2, 3, 1)), scale)  # B, H, D, N
    padding = op.Unsqueeze(mask_equals(op, mask, PADDING), [1, 2])
    weights = op.Softmax(op.Where(padding, MASKED_SCORE, op.Cast(op.MatMul(q, k), to=FLOAT32)), axis=-1)
    context = op.CastLike(op.MatMul(weights, op.Cast(v, to=FLOAT32)), value)
    return heads.join(op.Add(context, convolution_body(op, v, conv_weight)))


OP = Op(
    name="FullAttention",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("value", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
        Port("conv_weight", ("H", "K")),
    ),
    attributes=(Attribute("num_heads", int, 1, dim="H"),),
    reference=reference,
    body=body,
    rules=(heads_divide_width, taps_are_odd),
)
