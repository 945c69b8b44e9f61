"""Lengths, token masks and activations at which banded attention goes wrong, for tests of its ops."""

from __future__ import annotations

import numpy as np
import torch

LENGTHS = (1, 2, 4, 5, 15, 16, 17, 31, 33, 50, 97)
MASKS = ("plain", "first global", "scattered", "all global", "right padding", "left padding", "one row all padding")


def token_mask(kind: str, batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """(batch, tokens) int32 of 0, 1, 2, different from row to row."""
    rng = np.random.default_rng(seed)
    mask = np.ones((batch, tokens), np.int32)
    for row in range(batch):
        if kind == "first global":
            mask[row, 0] = 2
        elif kind in ("scattered", "one row all padding"):
            mask[row, rng.choice(tokens, size=min(tokens, row + 2), replace=False)] = 2
        elif kind == "right padding":
            mask[row, tokens - tokens * (row + 1) // 4 :] = 0
            mask[row, 0] = 2
        elif kind == "left padding":
            mask[row, : tokens * (row + 1) // 4] = 0
            mask[row, -1] = 2
    if kind == "all global":
        mask[:] = 2
    if kind == "one row all padding":
        mask[-1] = 0
    return torch.from_numpy(mask)


def activations(*shape: int, seed: int) -> torch.Tensor:
    """Spread widely, so that attention is sharp and a wrong key shows."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2
