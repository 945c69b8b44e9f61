"""lat::BernoulliExpectation: attention by the expected rate of hash collisions (YOSO-E).

Source: YOSO, arXiv 2111.09714, section 3.2; transformers YosoCumulation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds
from lat_export.ops.heads import Heads
from lat_export.ops.onnx_types import FLOAT32
from lat_export.ops.token_mask import PADDING, mask_equals
from lat_export.ops.torch_heads import split_heads
from lat_export.ops.unit_rows import SMALLEST_NORM, unit_rows

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    num_heads: int,
    hash_code_len: int,
    normalised: bool = True,
) -> torch.Tensor:
    """Dense, O(N^2).

    Args:
        query: (B, N, E); float32, float16, bfloat16 or float64.
        key: (B, N, E).
        value: (B, N, E).
        attention_mask: (B, N) int32: 0 padding, else token.
        num_heads: H.
        hash_code_len: T, bits of a hash code.
        normalised: divide each row of a head by its L2 norm; without it, the expectation that hashing estimates.
    Returns:
        (B, N, E), dtype of query; padded rows are zero.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    weights = expected_collisions(
        split_heads(query, num_heads).to(accumulate), split_heads(key, num_heads).to(accumulate), hash_code_len
    )
    weights = weights.masked_fill((attention_mask == PADDING)[:, None, None, :], 0)
    context = weights @ split_heads(value, num_heads).to(accumulate)
    if normalised:
        context = torch.nn.functional.normalize(context, dim=-1, eps=SMALLEST_NORM)
    rows = context.transpose(1, 2).flatten(2).to(query.dtype)
    return rows.masked_fill((attention_mask == PADDING)[..., None], 0)


def expected_collisions(query: torch.Tensor, key: torch.Tensor, hash_code_len: int) -> torch.Tensor:
    """(B, H, N, D) twice -> (B, H, N, N): the probability that all T bits of two codes are alike."""
    import torch

    unit_query, unit_key = (torch.nn.functional.normalize(rows, dim=-1, eps=SMALLEST_NORM) for rows in (query, key))
    # Without the clip rounding gives a cosine above 1 for parallel rows, and acos of that is NaN.
    cosine = (unit_query @ unit_key.mT).clamp(-1, 1)
    weights: torch.Tensor = (1 - cosine.acos() / math.pi) ** hash_code_len
    return weights


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """O(N^2) time and memory: the weights of every pair; native forms tile."""
    query, key, value, mask = op.inputs
    heads = Heads(op, query, mask)
    unit_query, unit_key = unit_rows(op, heads.split(query)), unit_rows(op, heads.split(key))
    cosine = op.MatMul(unit_query, op.Transpose(unit_key, perm=[0, 1, 3, 2]))
    # Without the clip rounding gives a cosine above 1 for parallel rows, and acos of that is NaN.
    angle = op.Acos(op.Clip(cosine, -1.0, 1.0))
    collisions = op.Pow(op.Sub(1.0, op.Mul(angle, 1.0 / math.pi)), op.Cast(op.attribute("hash_code_len"), to=FLOAT32))
    padding = mask_equals(op, mask, PADDING)
    weights = op.Where(op.Unsqueeze(padding, [1, 2]), 0.0, collisions)
    context = unit_rows(op, op.MatMul(weights, op.Cast(heads.split(value), to=FLOAT32)))
    rows = heads.join(op.CastLike(context, value))
    return op.Where(op.Unsqueeze(padding, [2]), op.CastLike(0.0, rows), rows)


OP = Op(
    name="BernoulliExpectation",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("value", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("hash_code_len", int, 1, dim="T"),
    ),
    reference=reference,
    body=body,
)
