"""Rows of all heads into rows by head, for the PyTorch references."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def split_heads(rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, N, E) -> (B, H, N, D)."""
    return rows.view(*rows.shape[:-1], num_heads, -1).transpose(1, 2)


def scaled_heads(rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, N, E) -> (B, H, N, D), times D^-1/4: half of the scale of a product of two."""
    heads = split_heads(rows, num_heads)
    scaled: torch.Tensor = heads * heads.shape[-1] ** -0.25
    return scaled
