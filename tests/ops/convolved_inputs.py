"""Activations, token masks and taps for tests of attention to which a convolution of the values is added."""

from __future__ import annotations

import torch

HEADS, WIDTH = 2, 32
PADDINGS = ("none", "right", "left", "one row all padding")


def inputs(tokens: int, padding: str = "none", taps: int = 3, batch: int = 3) -> tuple[torch.Tensor, ...]:
    """Query, key, value (batch, tokens, WIDTH), mask (batch, tokens) int32 of 0 and 1, weights (HEADS, taps)."""
    generator = torch.Generator().manual_seed(tokens + taps)
    rows = [torch.randn(batch, tokens, WIDTH, generator=generator) * 1.5 for _ in range(3)]
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        lost = tokens * (row + 1) // 5
        if padding == "right":
            mask[row, tokens - lost :] = 0
        elif padding == "left":
            mask[row, :lost] = 0
    if padding == "one row all padding":
        mask[-1] = 0
    return (*rows, mask, torch.randn(HEADS, taps, generator=generator) * 0.3)
