"""The token mask (0 padding, 1 token, 2 global token) and the part of an ONNX body that finds global tokens.

No NonZero and no scatter with a reduction: TensorRT-RTX takes neither. The G tokens are the first G of a stable TopK
over "is global", so rows with fewer globals are filled up with tokens that `valid` marks as no global.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lat_export.ops.onnx_types import FLOAT32, INT64

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder
    from lat_export.ops.contract import StaticBounds

PADDING, TOKEN, GLOBAL = 0, 1, 2

# Finite, so that a row without any key still gives a finite softmax; far below any score of finite fp32 activations.
MASKED_SCORE = -1e30


def mask_equals(op: BodyBuilder, mask: ir.Value, kind: int) -> ir.Value:
    """bool, shape of `mask`: where it holds `kind`."""
    return op.Equal(op.Cast(mask, to=INT64), kind)


@dataclass(frozen=True)
class GlobalTokens:
    """The global tokens of a batch.

    Attributes:
        indices: int64 [B, G], positions in the sequence, distinct within a row.
        valid: bool [B, G], false where a row has fewer than G globals.
        count: int64 [1], G >= 1 (one invalid slot where the batch has no global at all: no zero-size tensor arises).
        most: int64 [1], the largest number of globals in a row; G where shapes cannot depend on data.
    """

    indices: ir.Value
    valid: ir.Value
    count: ir.Value
    most: ir.Value

    @classmethod
    def find(cls, op: BodyBuilder, mask: ir.Value, bounds: StaticBounds) -> GlobalTokens:
        is_global = op.Cast(mask_equals(op, mask, GLOBAL), to=FLOAT32)
        if bounds.max_global is None:
            in_a_row = op.ReduceMax(op.ReduceSum(is_global, [1], keepdims=0), [0], keepdims=1)
            most = op.Cast(in_a_row, to=INT64)
            count = op.Max(most, [1])
        else:
            most = count = op.Min(op.size(mask, 1), [bounds.max_global])
        found, indices = op.TopK(is_global, count, axis=1, outputs=2)
        return cls(indices, op.Greater(found, 0.5), count, most)

    def gather(self, op: BodyBuilder, rows: ir.Value) -> ir.Value:
        """[B, N, E] -> [B, G, E]."""
        return op.GatherElements(rows, self.spread(op, rows), axis=1)

    def spread(self, op: BodyBuilder, rows: ir.Value) -> ir.Value:
        """The indices as int64 [B, G, E], the form that gathers and scatters whole rows of `rows` [B, N, E]."""
        return op.Expand(op.Unsqueeze(self.indices, [2]), op.dims(1, 1, op.size(rows, 2)))


def global_columns(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """For references: (B, H, N, N) -> (B, H, N, G), the columns of the global tokens in their order.

    G is the most global tokens in a row of the batch; where a row has fewer, its last columns are zero.
    """
    is_global = mask == GLOBAL
    in_a_row = is_global.sum(-1)
    place = is_global.int().argsort(dim=-1, descending=True, stable=True)[:, : int(in_a_row.max())]  # B, G
    missing = (place.new_ones(place.shape).cumsum(-1) > in_a_row[:, None])[:, None, None, :]
    columns = weights.gather(-1, place[:, None, None, :].expand(*weights.shape[:3], -1))
    return columns.masked_fill(missing, 0)
