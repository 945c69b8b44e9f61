"""What the tests of BernoulliExpectation's CUDA kernel share, on a GPU and on the device played on the host."""

from __future__ import annotations

import torch
from native.c_abi import DTYPES, BernoulliExpectation, Rows
from native.cuda_abi import Device
from native.cuda_checks import cast, check_policy, double, lay_out, normal
from native.dense_cuda_checks import padding_mask

from lat_export.ops import OPS

OP = OPS["BernoulliExpectation"].reference
Tensors = tuple[torch.Tensor, ...]
# acos is steepest at 1 and -1: a cosine there that float32 rounds by 1e-7 moves a rate by 1.4e-4, and a weight by T
# times that. Plain PyTorch in float32 is as far off as the kernel.
SPECIAL_CEILING = 5e-4


def inputs(kind: str, tokens: int, heads: int, head_size: int, batch: int = 3) -> Tensors:
    """Each query has keys near by: without them all weights would be about 2^-T."""
    shape = (batch, tokens, heads * head_size)
    key = normal(*shape, seed=1)
    query = normal(*shape, seed=0) + key.roll(1, 1) * torch.rand(batch, tokens, 1, generator=torch.manual_seed(3)) * 2
    return query, key, normal(*shape, seed=2), padding_mask(kind, batch, tokens)


def special_inputs(dtype: torch.dtype, tokens: int, heads: int, head_size: int) -> list[Tensors]:
    """Zero, parallel and opposite rows, and rows of very different lengths."""
    *rows, mask = inputs("plain", tokens, heads, head_size, batch=2)
    query, key, value = cast(tuple(rows), dtype)
    zero, one = torch.zeros_like(query), torch.ones_like(query)
    sizes = torch.tensor([1e-3, 1.0, 100.0]).repeat(tokens)[:tokens, None].to(dtype)
    return [
        (key, key, value, mask),
        (-key, key, value, mask),
        (key * sizes, -key * sizes.flip(0), value, mask),
        (zero, key, value, mask),
        (query, zero, value, mask),
        (one, one, value, mask),
        (one, -one, value, mask),
        (query, key, zero, mask),
    ]


def arguments(tensors: Tensors, heads: int, bits: int) -> BernoulliExpectation:
    *rows, mask = tensors
    sizes = (*rows[0].shape, heads, bits, DTYPES[rows[0].dtype])
    return BernoulliExpectation(*sizes, *map(Rows.of, rows), Rows(), mask.data_ptr())


def run(device: Device, tensors: Tensors, heads: int, bits: int, layout: str = "without gaps") -> torch.Tensor:
    tensors = lay_out(tuple(tensor.to(device.name) for tensor in tensors), layout)
    return device.run(arguments(tensors, heads, bits), tensors[0].shape, tensors[0].dtype)


def check(
    device: Device, tensors: Tensors, heads: int, bits: int, layout: str = "without gaps", ceiling: float = 0.0
) -> None:
    output = run(device, tensors, heads, bits, layout)
    tensors = tuple(tensor.to(device.name) for tensor in tensors)
    attributes = {"num_heads": heads, "hash_code_len": bits}
    exact, naive = OP(*double(tensors), **attributes), OP(*tensors, **attributes)
    check_policy(output, exact, naive, tensors[3] != 0, ceiling)
