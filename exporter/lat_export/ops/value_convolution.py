"""Nystroemformer's depthwise convolution of the values: each head has taps of its own over N."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lat_export.errors import ShapeError
from lat_export.ops.body import OwnAttribute
from lat_export.ops.onnx_types import FLOAT32

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def convolution(values: torch.Tensor, conv_weight: torch.Tensor) -> torch.Tensor:
    """(B, H, N, D) with taps (H, K), K odd, zeros beyond both ends -> (B, H, N, D)."""
    import torch

    heads, count = conv_weight.shape
    return torch.nn.functional.conv2d(values, conv_weight[:, None, :, None], padding=(count // 2, 0), groups=heads)


def convolution_body(op: BodyBuilder, values: ir.Value, conv_weight: ir.Value) -> ir.Value:
    """The same for ONNX bodies: [B, H, N, D] with taps [H, K] -> [B, H, N, D].

    In float32, whatever the element type: up to opset 21, ONNX has no bfloat16 Conv.
    """
    half = op.Div(op.size(conv_weight, 1), [2])
    rows, taps = op.Cast(values, to=FLOAT32), op.Cast(op.Unsqueeze(conv_weight, [1, 3]), to=FLOAT32)
    padded = op.Pad(rows, op.dims(half, half), 0.0, [2])
    return op.CastLike(op.Conv(padded, taps, group=OwnAttribute("num_heads")), values)


def taps_are_odd(sizes: dict[str, int], attributes: dict[str, Any]) -> None:
    """Rule of ops that take `conv_weight`."""
    if sizes["K"] % 2 == 0:
        raise ShapeError("a convolution that keeps the length has an odd number of taps", got=f"K={sizes['K']}")
