"""lat::BandedWindowAttention: softmax over a window of W tokens to either side and every global token.

Source: Longformer, arXiv 2004.05150, section 3.1; transformers LongformerSelfAttention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds
from lat_export.ops.onnx_types import FLOAT32
from lat_export.ops.token_mask import GLOBAL, MASKED_SCORE, TOKEN, GlobalTokens, mask_equals
from lat_export.ops.torch_heads import split_heads
from lat_export.ops.window_blocks import WindowBlocks

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
    window: int,
    scale: float,
    allow_tf32: int = 0,
) -> torch.Tensor:
    """Dense, O(N^2): the definition, not a fast form.

    Args:
        query: (B, N, E), not yet scaled; float32, float16, bfloat16 or float64.
        key: (B, N, E).
        value: (B, N, E).
        attention_mask: (B, N) int32: 0 padding, 1 token, 2 global token.
        num_heads: H.
        window: one-sided window W in tokens, >= 1.
        scale: factor on every score, 1 / sqrt(D) in transformers.
        allow_tf32: 1 lets the CUDA kernel round the operands of both products, float32 queries, keys, weights and
            values, to TF32 (10 bits of the fraction instead of 23); sums and softmax stay float32. 0, which is also
            what it is where a node or a call does not have it, keeps all of float32. It changes nothing for 16-bit
            types, in this definition, in the ONNX body and on the CPU.
    Returns:
        (B, N, E), dtype of query; rows with mask 0, or with 2, are zero.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    position = torch.arange(query.shape[1], device=query.device)
    in_window = (position[:, None] - position[None, :]).abs() <= window
    allowed = (in_window & (attention_mask == TOKEN)[:, None, :]) | (attention_mask == GLOBAL)[:, None, :]
    scores = (split_heads(query, num_heads) @ split_heads(key, num_heads).transpose(-1, -2)).to(accumulate) * scale
    scores = scores.masked_fill(~allowed[:, None], MASKED_SCORE)
    output = scores.softmax(-1).to(value.dtype) @ split_heads(value, num_heads)
    return output.transpose(1, 2).flatten(2).masked_fill((attention_mask != TOKEN)[..., None], 0)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """Blocks of b rows against the 3 b keys around them and the G globals: O(N * (3 b + G)) time and memory.

    The globals are appended to the keys of every block, so that product, softmax and product follow each other in the
    form that engines fuse. All that hangs on the mask alone is the same in every layer: engines compute it once.
    """
    query, key, value, mask = op.inputs
    grid = WindowBlocks(op, query, mask)
    scaled = op.Mul(query, op.CastLike(op.attribute("scale"), query))
    queries = op.Transpose(grid.split(scaled, neighbours=0), perm=[0, 1, 3, 2, 4])  # B, blocks, H, b, D
    keys = grid.with_neighbours(grid.split(key, neighbours=1), axis=2)  # B, blocks, 3b, H, D
    values = grid.with_neighbours(grid.split(value, neighbours=1), axis=2)
    allowed = op.And(grid.local_keys(), grid.band())  # B, blocks, 1, b, 3b
    if bounds.max_global != 0:
        tokens = GlobalTokens.find(op, mask, bounds)
        keys = op.Concat(keys, grid.in_every_block(tokens.gather(op, key), tokens.count), axis=2)
        values = op.Concat(values, grid.in_every_block(tokens.gather(op, value), tokens.count), axis=2)
        allowed = op.Concat(allowed, grid.for_every_row(tokens.valid, tokens.count), axis=4)

    scores = op.Cast(op.MatMul(queries, op.Transpose(keys, perm=[0, 1, 3, 4, 2])), to=FLOAT32)
    weights = op.CastLike(op.Softmax(op.Where(allowed, scores, MASKED_SCORE), axis=-1), value)
    context = op.MatMul(weights, op.Transpose(values, perm=[0, 1, 3, 2, 4]))
    rows = grid.join(op.Transpose(context, perm=[0, 1, 3, 2, 4]))
    of_token = op.Unsqueeze(mask_equals(op, mask, TOKEN), [2])
    return op.Where(of_token, rows, op.CastLike(0.0, rows))


OP = Op(
    name="BandedWindowAttention",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("value", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("window", int, 1, dim="W"),
        Attribute("scale", float, 0.0),
        Attribute("allow_tf32", int, 0, maximum=1, default=0),
    ),
    reference=reference,
    body=body,
)
