"""lat::BandedWindowProbabilities: the weights with which BandedWindowAttention mixes the values.

Only for models that are asked for `attentions`: standard ops, beside the attention's own, which never has them whole.
Source: transformers LongformerBaseModelOutput.attentions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds
from lat_export.ops.onnx_types import FLOAT32
from lat_export.ops.token_mask import GLOBAL, MASKED_SCORE, TOKEN, GlobalTokens, global_columns, mask_equals
from lat_export.ops.torch_heads import split_heads
from lat_export.ops.window_blocks import WindowBlocks

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
    window: int,
    scale: float,
) -> torch.Tensor:
    """Dense, O(N^2), then cut out.

    Args:
        query: (B, N, E), not yet scaled; float32, float16, bfloat16 or float64.
        key: (B, N, E).
        attention_mask: (B, N) int32: 0 padding, 1 token, 2 global token.
        num_heads: H.
        window: one-sided window W in tokens, >= 1.
        scale: factor on every score.
    Returns:
        (B, H, N, G + 2 W + 1), G the most global tokens in a row of the batch: first the weights of the global tokens
        in their order, zero where a row has fewer; then those of the tokens from W before to W after, zero for global
        tokens, padding and places outside the sequence. Rows with mask 0 or 2 are zero.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    position = torch.arange(query.shape[1], device=query.device)
    offset = torch.arange(-window, window + 1, device=query.device)
    in_window = (position[:, None] - position[None, :]).abs() <= window
    is_token, is_global = attention_mask == TOKEN, attention_mask == GLOBAL
    allowed = (in_window & is_token[:, None, :]) | is_global[:, None, :]
    scores = (split_heads(query, num_heads) @ split_heads(key, num_heads).mT).to(accumulate) * scale
    weights = scores.masked_fill(~allowed[:, None], MASKED_SCORE).softmax(-1)
    weights = weights.masked_fill(~is_token[:, None, :, None], 0).to(query.dtype)

    place = position[:, None] + offset  # N, 2W + 1
    outside = (place < 0) | (place >= query.shape[1])
    place = place.clamp(0, query.shape[1] - 1)
    local = weights.masked_fill(~is_token[:, None, None, :], 0).gather(-1, place.expand(*weights.shape[:3], -1))
    return torch.cat([global_columns(weights, attention_mask), local.masked_fill(outside, 0)], dim=-1)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """Blocks as in BandedWindowAttention; of a row's 3 b local weights the 2 W + 1 of its window are kept."""
    query, key, mask = op.inputs
    grid = WindowBlocks(op, query, mask, hold_the_window=True)
    tokens = GlobalTokens.find(op, mask, bounds.with_room_for_one())
    scaled = op.Mul(query, op.CastLike(op.attribute("scale"), query))
    queries = op.Transpose(grid.split(scaled, neighbours=0), perm=[0, 1, 3, 2, 4])  # B, blocks, H, b, D
    keys = grid.with_neighbours(grid.split(key, neighbours=1), axis=2)  # B, blocks, 3b, H, D
    keys = op.Concat(keys, grid.in_every_block(tokens.gather(op, key), tokens.count), axis=2)
    allowed = op.And(grid.local_keys(), grid.band())  # B, blocks, 1, b, 3b
    allowed = op.Concat(allowed, grid.for_every_row(tokens.valid, tokens.count), axis=4)
    scores = op.Cast(op.MatMul(queries, op.Transpose(keys, perm=[0, 1, 3, 4, 2])), to=FLOAT32)
    weights = op.Softmax(op.Where(allowed, scores, MASKED_SCORE), axis=-1)  # B, blocks, H, b, 3b + G

    local_keys = op.Mul(grid.block, [3])
    of_globals = op.Slice(weights, local_keys, op.Add(local_keys, tokens.most), [4])
    local = op.GatherElements(weights, grid.window_columns(), axis=4)
    blocks = op.Transpose(op.Concat(of_globals, local, axis=4), perm=[0, 2, 1, 3, 4])  # B, H, blocks, b, G + 2W + 1
    columns = op.size(blocks, 4)
    rows = op.reshape(blocks, grid.batch, grid.num_heads, -1, columns)
    rows = op.CastLike(op.Slice(rows, [0], grid.length, [2]), query)
    return op.Where(op.Unsqueeze(mask_equals(op, mask, TOKEN), [1, 3]), rows, op.CastLike(0.0, rows))


OP = Op(
    name="BandedWindowProbabilities",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("window", int, 1, dim="W"),
        Attribute("scale", float, 0.0),
    ),
    reference=reference,
    body=body,
    output_dims=("B", "H", "N", "G+2W+1"),
)
