"""What the tests of the CUDA kernels of the dense ops share: masks that know padding and nothing else."""

from __future__ import annotations

import torch

MASKS = ("plain", "right padding", "left padding", "scattered", "other numbers", "all padding")


def padding_mask(kind: str, batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """(batch, tokens) int32, different from row to row; the last row of a batch of three or more is all padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        cut = tokens * (row + 1) // 4
        if kind == "right padding":
            mask[row, tokens - cut :] = 0
        elif kind == "left padding":
            mask[row, :cut] = 0
        elif kind == "scattered":
            mask[row] = torch.randint(0, 2, (tokens,), generator=generator, dtype=torch.int32)
        elif kind == "other numbers":
            # Whatever is not 0 is a token. A whole tile of 64 is padding where there is more than one.
            mask[row] = torch.randint(-2, 4, (tokens,), generator=generator, dtype=torch.int32)
            mask[row, 64 * row : 64 * (row + 1)] *= int(tokens <= 128)
    if batch > 2:
        mask[-1] = 0
    return mask if kind != "all padding" else torch.zeros_like(mask)


def with_padding_of(number: float, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A copy whose rows of padding hold `number`, where the row of the batch has a token."""
    padded = (mask == 0) & (mask != 0).any(1, keepdim=True)
    return rows.masked_fill(padded[..., None], number)
