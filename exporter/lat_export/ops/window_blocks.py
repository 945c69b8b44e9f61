"""The sequence in blocks as wide as the window, for ONNX bodies: a window ends in the blocks beside its row's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.token_mask import TOKEN, mask_equals

if TYPE_CHECKING:
    import onnx_ir as ir

    from lat_export.ops.body import BodyBuilder

# Blocks are W rows, so that one neighbour to either side covers the window. Below this they would be so small that the
# globals, repeated for every block, outweigh all else.
SMALLEST_BLOCK = 16

_END = 2**31 - 1  # "to the end" for Slice


class WindowBlocks:
    """The sequence cut into blocks of b rows; all sizes are int64 [1] computed in the graph."""

    def __init__(self, op: BodyBuilder, query: ir.Value, mask: ir.Value, *, hold_the_window: bool = False) -> None:
        """
        Args:
            query: [B, N, E].
            mask: int32 [B, N].
            hold_the_window: blocks are never smaller than the window, however short the sequence.
        """
        self.op, self.mask = op, mask
        self.batch, self.length = op.size(self.mask, 0), op.size(self.mask, 1)
        self.width = op.size(query, 2)
        whole = op.Max(op.reshape(op.attribute("window"), 1), [SMALLEST_BLOCK])
        # Divided by a number, not by `block`: an engine bounds every size by itself, and min(W, N) may be 1 where a
        # profile begins at 1, so that it would plan N blocks of W rows. Up to N = W both quotients are 1.
        self.blocks = op.Div(op.Sub(op.Add(self.length, whole), [1]), whole)
        # A sequence shorter than a block is one block of its own length: nothing is padded to W.
        self.block = whole if hold_the_window else op.Min(whole, self.length)
        self.tail = op.Sub(op.Mul(self.blocks, self.block), self.length)
        self.num_heads = op.reshape(op.attribute("num_heads"), 1)
        self.head_size = op.Div(self.width, self.num_heads)

    def _padded(self, rows: ir.Value, neighbours: int) -> ir.Value:
        """`rows` [B, N, ...] with whole blocks, and `neighbours` empty blocks before and after."""
        op = self.op
        before = op.Mul(self.block, [neighbours])
        pads = op.dims(before, op.Add(before, self.tail))
        return op.Pad(rows, pads, op.CastLike(0, rows), [1])

    def split(self, rows: ir.Value, neighbours: int) -> ir.Value:
        """[B, N, E] -> [B, blocks (+ 2 neighbours), b, H, D]."""
        padded = self._padded(rows, neighbours)
        return self.op.reshape(padded, self.batch, -1, self.block, self.num_heads, self.head_size)

    def with_neighbours(self, padded_blocks: ir.Value, axis: int) -> ir.Value:
        """[B, blocks + 2, ...] -> [B, blocks, ...], each block joined with the ones before and after it on `axis`."""
        op = self.op
        starts_and_ends = (([0], [-2]), ([1], [-1]), ([2], [_END]))
        return op.Concat(*(op.Slice(padded_blocks, start, end, [1]) for start, end in starts_and_ends), axis=axis)

    def in_every_block(self, rows: ir.Value, count: ir.Value) -> ir.Value:
        """[B, G, E] -> [B, blocks, G, H, D]."""
        op = self.op
        once = op.reshape(rows, self.batch, 1, count, self.num_heads, self.head_size)
        return op.Expand(once, op.dims(self.batch, self.blocks, count, self.num_heads, self.head_size))

    def for_every_row(self, columns: ir.Value, count: ir.Value) -> ir.Value:
        """bool [B, G] -> [B, blocks, 1, b, G]."""
        op = self.op
        once = op.Unsqueeze(columns, [1, 2, 3])
        return op.Expand(once, op.dims(self.batch, self.blocks, 1, self.block, count))

    def local_keys(self) -> ir.Value:
        """bool [B, blocks, 1, 1, 3b]: keys that are plain tokens; globals have their own column, padding has none."""
        op = self.op
        padded = op.reshape(self._padded(self.mask, neighbours=1), self.batch, -1, self.block)
        return op.Unsqueeze(mask_equals(op, self.with_neighbours(padded, axis=2), TOKEN), [2, 3])

    def band(self) -> ir.Value:
        """bool [b, 3b]: |i - j| <= W for row r at position b + r of its 3b keys."""
        op = self.op
        block = op.Squeeze(self.block, [0])
        row = op.Unsqueeze(op.Range(block, op.Mul(block, 2), 1), [1])
        column = op.Unsqueeze(op.Range(0, op.Mul(block, 3), 1), [0])
        return op.LessOrEqual(op.Abs(op.Sub(column, row)), op.attribute("window"))

    def window_columns(self) -> ir.Value:
        """int64 [B, blocks, H, b, 2W + 1]: of the 3b keys of a row, those from W before it to W after it.

        Only where the blocks hold the window.
        """
        op = self.op
        block, window = op.Squeeze(self.block, [0]), op.attribute("window")
        row = op.Unsqueeze(op.Range(block, op.Mul(block, 2), 1), [1])
        offset = op.Unsqueeze(op.Range(op.Neg(window), op.Add(window, 1), 1), [0])
        columns = op.Add(row, offset)
        return op.Expand(columns, op.dims(self.batch, self.blocks, self.num_heads, 1, 1))

    def join(self, blocks: ir.Value) -> ir.Value:
        """[B, blocks, b, H, D] -> [B, N, E]."""
        op = self.op
        rows = op.reshape(blocks, self.batch, -1, self.width)
        return op.Slice(rows, [0], self.length, [1])
