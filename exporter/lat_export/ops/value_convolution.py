"""Nystroemformer's depthwise convolution of the values: each head has taps of its own over N."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lat_export.errors import ShapeError
from lat_export.ops.body import OwnAttribute

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
    """The same for ONNX bodies: [B, H, N, D] with taps [H, K] -> [B, H, N, D]."""
    half = op.Div(op.size(conv_weight, 1), [2])
    padded = op.Pad(values, op.dims(half, half), op.CastLike(0, values), [2])
    return op.Conv(padded, op.Unsqueeze(conv_weight, [1, 3]), group=OwnAttribute("num_heads"))


def taps_are_odd(sizes: dict[str, int], attributes: dict[str, Any]) -> None:
    """Rule of ops that take `conv_weight`."""
    if sizes["K"] % 2 == 0:
        raise ShapeError("a convolution that keeps the length has an odd number of taps", got=f"K={sizes['K']}")
