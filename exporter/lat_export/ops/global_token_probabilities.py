"""lat::GlobalTokenProbabilities: the weights with which GlobalTokenAttention mixes the values.

Only for models that are asked for `attentions`: standard ops, beside the attention's own.
Source: transformers LongformerBaseModelOutput.global_attentions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds
from lat_export.ops.heads import Heads
from lat_export.ops.onnx_types import FLOAT32
from lat_export.ops.token_mask import MASKED_SCORE, PADDING, GlobalTokens, global_columns, mask_equals
from lat_export.ops.torch_heads import split_heads

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    num_heads: int,
    scale: float,
) -> torch.Tensor:
    """Dense, O(N^2), then cut out.

    Args:
        query: (B, N, E), the global projection of every row, not yet scaled; float32, float16, bfloat16 or float64.
        key: (B, N, E), the global projection.
        attention_mask: (B, N) int32: 0 padding, 1 token, 2 global token.
        num_heads: H.
        scale: factor on every score.
    Returns:
        (B, H, N, G), G the most global tokens in a row of the batch: what each token is worth to each global token;
        zero where a row has fewer globals (transformers leaves uniform numbers there).
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    scores = (split_heads(query, num_heads) @ split_heads(key, num_heads).mT).to(accumulate) * scale
    weights = scores.masked_fill((attention_mask == PADDING)[:, None, None, :], MASKED_SCORE).softmax(-1)
    return global_columns(weights.mT, attention_mask).to(query.dtype)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """Only the G global rows are computed."""
    query, key, mask = op.inputs
    heads = Heads(op, query, mask)
    tokens = GlobalTokens.find(op, mask, bounds.with_room_for_one())
    rows = tokens.gather(op, query)
    rows = heads.split(op.Mul(rows, op.CastLike(op.attribute("scale"), rows)))  # B, H, G, D
    scores = op.Cast(op.MatMul(rows, heads.split(key, perm=(0, 2, 3, 1))), to=FLOAT32)
    padding = op.Unsqueeze(mask_equals(op, mask, PADDING), [1, 2])
    weights = op.Softmax(op.Where(padding, MASKED_SCORE, scores), axis=-1)
    weights = op.CastLike(op.Transpose(weights, perm=[0, 1, 3, 2]), query)  # B, H, N, G
    weights = op.Where(op.Unsqueeze(tokens.valid, [1, 2]), weights, op.CastLike(0.0, weights))
    return op.Slice(weights, [0], tokens.most, [3])


OP = Op(
    name="GlobalTokenProbabilities",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("scale", float, 0.0),
    ),
    reference=reference,
    body=body,
    output_dims=("B", "H", "N", "G"),
)
