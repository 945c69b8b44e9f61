"""What the tests of the Longformer ops' CUDA kernels share, on a GPU and on the device played on the host."""

from __future__ import annotations

from typing import Any

import torch
from native.c_abi import banded_arguments, global_arguments
from native.cuda_abi import Device
from native.cuda_checks import check_policy, double, lay_out, normal

from lat_export.ops import OPS

BANDED, GLOBAL = OPS["BandedWindowAttention"].reference, OPS["GlobalTokenAttention"].reference
MASKS = ("plain", "first global", "scattered", "all global", "right padding", "left padding", "half global", "no kind")


def token_mask(kind: str, batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """(batch, tokens) int32, different from row to row; the last row of a batch of three or more is all padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        cut = tokens * (row + 1) // 4
        if kind == "first global":
            mask[row, 0] = 2
        elif kind == "scattered":
            mask[row, torch.randperm(tokens, generator=generator)[: 3 + 40 * row]] = 2
        elif kind == "right padding":
            mask[row, tokens - cut :] = 0
            mask[row, 0] = 2
        elif kind == "left padding":
            mask[row, :cut] = 0
            mask[row, -1] = 2
        elif kind == "half global":
            mask[row] = torch.randint(1, 3, (tokens,), generator=generator, dtype=torch.int32)
        elif kind == "no kind":
            mask[row] = torch.randint(-2, 6, (tokens,), generator=generator, dtype=torch.int32)
    if kind == "all global":
        mask[:] = 2
    if batch > 2:
        mask[-1] = 0
    return mask


def kinds_only(mask: torch.Tensor) -> torch.Tensor:
    """A value that is no token kind counts as padding."""
    return torch.where((mask == 1) | (mask == 2), mask, 0)


def banded_inputs(kind: str, tokens: int, heads: int, head_size: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    shape = (batch, tokens, heads * head_size)
    return (*(normal(*shape, seed=seed) for seed in range(3)), token_mask(kind, batch, tokens))


def check_banded(
    device: Device, tensors: tuple[torch.Tensor, ...], attributes: dict[str, Any], layout: str = "without gaps"
) -> None:
    tensors = lay_out(tuple(tensor.to(device.name) for tensor in tensors), layout)
    query, mask = tensors[0], tensors[3]
    arguments = banded_arguments(tensors, query, attributes)
    output = device.run(arguments, query.shape, query.dtype)
    tensors = (*tensors[:3], kinds_only(mask))
    exact, naive = BANDED(*double(tensors), **attributes), BANDED(*tensors, **attributes)
    check_policy(output, exact, naive, mask == 1)


def banded_attributes(heads: int, window: int) -> dict[str, Any]:
    return {"num_heads": heads, "window": window, "scale": 0.11}


def global_inputs(kind: str, tokens: int, heads: int, head_size: int, batch: int = 4) -> tuple[torch.Tensor, ...]:
    width = heads * head_size
    matrices = [normal(width, width, seed=seed, size=width**-0.5) for seed in range(3)]
    biases = [normal(width, seed=seed, size=0.1) for seed in (4, 5)]
    hidden = normal(batch, tokens, width, seed=6)
    return hidden, token_mask(kind, batch, tokens), matrices[0], biases[0], matrices[1], matrices[2], biases[1]


def check_global(
    device: Device,
    tensors: tuple[torch.Tensor, ...],
    attributes: dict[str, Any],
    form: int,
    odd: bool = False,
    **how: Any,
) -> None:
    tensors = tuple(tensor.to(device.name) for tensor in tensors)
    hidden, mask = tensors[:2]
    if odd:
        hidden = torch.nn.functional.pad(hidden, (1, 2))[..., 1:-2]
        tensors = (hidden, *tensors[1:])
    arguments = global_arguments(tensors, hidden, attributes, form)
    output = device.run(arguments, hidden.shape, hidden.dtype, **how)
    tensors = (hidden, kinds_only(mask), *tensors[2:])
    exact, naive = GLOBAL(*double(tensors), **attributes), GLOBAL(*tensors, **attributes)
    check_policy(output, exact, naive, mask == 2)
