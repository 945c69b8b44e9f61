"""Rows divided by their L2 norm, as torch.nn.functional.normalize does it, for ONNX bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.onnx_types import FLOAT32

if TYPE_CHECKING:
    import onnx_ir as ir

    from lat_export.ops.body import BodyBuilder

SMALLEST_NORM = 1e-12


def unit_rows(op: BodyBuilder, rows: ir.Value) -> ir.Value:
    """`rows` over the norm of their last axis, in float32; a row of zeros stays zero (LpNormalization gives NaN)."""
    rows = op.Cast(rows, to=FLOAT32)
    norm = op.ReduceL2(rows, [-1], keepdims=1)
    return op.Div(rows, op.Max(norm, SMALLEST_NORM))
