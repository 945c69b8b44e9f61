"""lat::BandedWindowAttention: softmax over a window of W tokens to either side and every global token.

Source: Longformer, arXiv 2004.05150, section 3.1; transformers LongformerSelfAttention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds
from lat_export.ops.token_mask import FLOAT32, GLOBAL, MASKED_SCORE, PADDING, TOKEN, GlobalTokens, mask_equals

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
    Returns:
        (B, N, E), dtype of query; rows with mask 0 are zero, rows with mask 2 are finite and undefined.
    """
    import torch

    def heads(rows: torch.Tensor) -> torch.Tensor:
        return rows.view(*rows.shape[:-1], num_heads, -1).transpose(1, 2)

    accumulate = torch.promote_types(query.dtype, torch.float32)
    position = torch.arange(query.shape[1], device=query.device)
    in_window = (position[:, None] - position[None, :]).abs() <= window
    allowed = (in_window & (attention_mask == TOKEN)[:, None, :]) | (attention_mask == GLOBAL)[:, None, :]
    scores = (heads(query) @ heads(key).transpose(-1, -2)).to(accumulate) * scale
    scores = scores.masked_fill(~allowed[:, None], MASKED_SCORE)
    output = scores.softmax(-1).to(value.dtype) @ heads(value)
    return output.transpose(1, 2).flatten(2).masked_fill((attention_mask == PADDING)[..., None], 0)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """Blocks of b = min(W, N) rows against 3 b neighbouring keys and the globals: O(N * (3 W + G)) time and memory."""
    query, key, value, mask = op.inputs
    grid = _Blocks(op, query)
    scaled = op.Mul(query, op.CastLike(op.attribute("scale"), query))
    queries = op.Transpose(grid.split(scaled, neighbours=0), perm=[0, 1, 3, 2, 4])  # B, blocks, H, b, D
    keys = grid.with_neighbours(op.Transpose(grid.split(key, neighbours=1), perm=[0, 1, 3, 4, 2]), axis=4)
    values = grid.with_neighbours(op.Transpose(grid.split(value, neighbours=1), perm=[0, 1, 3, 2, 4]), axis=3)

    scores = op.Cast(op.MatMul(queries, keys), to=FLOAT32)  # B, blocks, H, b, 3b
    allowed = op.And(grid.local_keys(mask), grid.band())
    scores = op.Where(allowed, scores, MASKED_SCORE)
    if bounds.max_global == 0:
        context = op.MatMul(op.CastLike(op.Softmax(scores, axis=-1), value), values)
    else:
        context = _attend_with_globals(op, grid, bounds, queries, scores, values)
    rows = grid.join(op.Transpose(context, perm=[0, 1, 3, 2, 4]))
    padding = op.Unsqueeze(mask_equals(op, mask, PADDING), [2])
    return op.Where(padding, op.CastLike(0.0, rows), rows)  # type: ignore[no-any-return]


def _attend_with_globals(
    op: BodyBuilder, grid: _Blocks, bounds: StaticBounds, queries: ir.Value, band_scores: ir.Value, values: ir.Value
) -> ir.Value:
    """One softmax over the band's and the globals' scores; each part then weighs its own values."""
    _, key, value, mask = op.inputs
    tokens = GlobalTokens.find(op, mask, bounds)
    global_keys = op.Transpose(grid.heads(tokens.gather(op, key), tokens.count), perm=[0, 2, 3, 1])  # B, H, D, G
    global_values = op.Transpose(grid.heads(tokens.gather(op, value), tokens.count), perm=[0, 2, 1, 3])  # B, H, G, D
    global_scores = op.Cast(op.MatMul(queries, op.Unsqueeze(global_keys, [1])), to=FLOAT32)  # B, blocks, H, b, G
    global_scores = op.Where(op.Unsqueeze(tokens.valid, [1, 2, 3]), global_scores, MASKED_SCORE)
    weights = op.CastLike(op.Softmax(op.Concat(band_scores, global_scores, axis=-1), axis=-1), value)
    band_width = op.Mul(grid.block, [3])
    band_weights = op.Slice(weights, [0], band_width, [-1])
    global_weights = op.Slice(weights, band_width, [_END], [-1])
    return op.Add(  # type: ignore[no-any-return]
        op.MatMul(band_weights, values), op.MatMul(global_weights, op.Unsqueeze(global_values, [1]))
    )


_END = 2**31 - 1  # "to the end" for Slice


class _Blocks:
    """The sequence cut into blocks of b rows; all sizes are int64 [1] computed in the graph."""

    def __init__(self, op: BodyBuilder, query: ir.Value) -> None:
        self.op = op
        self.batch, self.length, self.width = (op.size(query, axis) for axis in range(3))
        # A sequence shorter than W is one block of its own length: nothing is padded to W.
        self.block = op.Min(op.reshape(op.attribute("window"), 1), self.length)
        self.blocks = op.Div(op.Sub(op.Add(self.length, self.block), [1]), self.block)
        self.tail = op.Sub(op.Mul(self.blocks, self.block), self.length)
        self.num_heads = op.reshape(op.attribute("num_heads"), 1)
        self.head_size = op.Div(self.width, self.num_heads)

    def _padded(self, rows: ir.Value, neighbours: int) -> ir.Value:
        """`rows` [B, N, ...] with whole blocks, and `neighbours` empty blocks before and after."""
        op = self.op
        before = op.Mul(self.block, [neighbours])
        pads = op.dims(before, op.Add(before, self.tail))
        return op.Pad(rows, pads, op.CastLike(0, rows), [1])  # type: ignore[no-any-return]

    def split(self, rows: ir.Value, neighbours: int) -> ir.Value:
        """[B, N, E] -> [B, blocks (+ 2 neighbours), b, H, D]."""
        op = self.op
        padded = self._padded(rows, neighbours)
        return op.reshape(padded, self.batch, -1, self.block, self.num_heads, self.head_size)

    def heads(self, rows: ir.Value, count: ir.Value) -> ir.Value:
        """[B, G, E] -> [B, G, H, D]."""
        return self.op.reshape(rows, self.batch, count, self.num_heads, self.head_size)

    def with_neighbours(self, padded_blocks: ir.Value, axis: int) -> ir.Value:
        """[B, blocks + 2, ...] -> [B, blocks, ...], each block joined with the ones before and after it on `axis`."""
        op = self.op
        starts_and_ends = (([0], [-2]), ([1], [-1]), ([2], [_END]))
        return op.Concat(*(op.Slice(padded_blocks, start, end, [1]) for start, end in starts_and_ends), axis=axis)  # type: ignore[no-any-return]

    def local_keys(self, mask: ir.Value) -> ir.Value:
        """bool [B, blocks, 1, 1, 3b]: keys that are plain tokens; globals have their own column, padding has none."""
        op = self.op
        padded = op.reshape(self._padded(mask, neighbours=1), self.batch, -1, self.block)
        return op.Unsqueeze(mask_equals(op, self.with_neighbours(padded, axis=2), TOKEN), [2, 3])  # type: ignore[no-any-return]

    def band(self) -> ir.Value:
        """bool [b, 3b]: |i - j| <= W for row r at position b + r of its 3b keys."""
        op = self.op
        block = op.Squeeze(self.block, [0])
        row = op.Unsqueeze(op.Range(block, op.Mul(block, 2), 1), [1])
        column = op.Unsqueeze(op.Range(0, op.Mul(block, 3), 1), [0])
        return op.LessOrEqual(op.Abs(op.Sub(column, row)), op.attribute("window"))  # type: ignore[no-any-return]

    def join(self, blocks: ir.Value) -> ir.Value:
        """[B, blocks, b, H, D] -> [B, N, E]."""
        op = self.op
        rows = op.reshape(blocks, self.batch, -1, self.width)
        return op.Slice(rows, [0], self.length, [1])  # type: ignore[no-any-return]


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
    ),
    reference=reference,
    body=body,
)
