"""What the tests of FullAttention's CUDA kernels share, on a GPU and on the device played on the host."""

from __future__ import annotations

import torch
from native.c_abi import DTYPES, FullAttention, Rows, pointer
from native.cuda_abi import Device
from native.cuda_checks import check_policy, double, lay_out, normal
from native.dense_cuda_checks import padding_mask

from lat_export.ops import OPS

OP = OPS["FullAttention"].reference
Tensors = tuple[torch.Tensor, ...]


def inputs(kind: str, tokens: int, heads: int, head_size: int, taps: int = 5, batch: int = 3) -> Tensors:
    """Query, key, value, mask and taps."""
    rows = (normal(batch, tokens, heads * head_size, seed=seed) for seed in range(3))
    return (*rows, padding_mask(kind, batch, tokens), normal(heads, taps, seed=4, size=0.3))


def arguments(tensors: Tensors, convolution: bool = True) -> FullAttention:
    *rows, mask, weight = tensors
    heads, taps = weight.shape
    sizes = (*rows[0].shape, heads, taps, DTYPES[rows[0].dtype])
    return FullAttention(*sizes, *map(Rows.of, rows), Rows(), mask.data_ptr(), pointer(weight) if convolution else None)


def run(
    device: Device, tensors: Tensors, layout: str = "without gaps", convolution: bool = True, offset: int = 0
) -> torch.Tensor:
    *rest, weight = (tensor.to(device.name) for tensor in tensors)
    tensors = (*lay_out(tuple(rest), layout), weight)
    return device.run(arguments(tensors, convolution), tensors[0].shape, tensors[0].dtype, offset=offset)


def check(
    device: Device, tensors: Tensors, layout: str = "without gaps", convolution: bool = True, offset: int = 0
) -> None:
    output = run(device, tensors, layout, convolution, offset)
    tensors = tuple(tensor.to(device.name) for tensor in tensors)
    if not convolution:
        tensors = (*tensors[:4], torch.zeros_like(tensors[4]))
    heads = tensors[4].shape[0]
    every_row = torch.ones_like(tensors[3], dtype=torch.bool)
    check_policy(output, OP(*double(tensors), num_heads=heads), OP(*tensors, num_heads=heads), every_row)
