"""The part that every body has in common: rows of all heads into rows by head, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from lat_export.ops.body import BodyBuilder


class Heads:
    """Sizes of a call, int64 [1] each, and the two changes of layout.

    B and N come from the mask, which is the same in every layer: what hangs on them alone is computed once a graph.
    """

    def __init__(self, op: BodyBuilder, rows: ir.Value, mask: ir.Value) -> None:
        self._op = op
        self.batch, self.length = op.size(mask, 0), op.size(mask, 1)
        self.width = op.size(rows, 2)
        self.num_heads = op.reshape(op.attribute("num_heads"), 1)
        self.head_size = op.Div(self.width, self.num_heads)

    def split(self, rows: ir.Value, perm: tuple[int, int, int, int] = (0, 2, 1, 3)) -> ir.Value:
        """[B, N, E] -> [B, N, H, D], transposed by `perm`: as it stands to [B, H, N, D]."""
        op = self._op
        split = op.reshape(rows, self.batch, -1, self.num_heads, self.head_size)
        return op.Transpose(split, perm=list(perm))

    def join(self, rows: ir.Value) -> ir.Value:
        """[B, H, N, D] -> [B, N, E]."""
        op = self._op
        return op.reshape(op.Transpose(rows, perm=[0, 2, 1, 3]), self.batch, -1, self.width)
