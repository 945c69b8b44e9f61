"""What the tests of NystromAttention's CUDA kernels share, on a GPU and on the device played on the host."""

from __future__ import annotations

from typing import Any

import torch
from native import kernel_checks
from native.c_abi import NystromAttention
from native.cuda_abi import Device
from native.cuda_checks import check_policy, double, lay_out
from native.test_nystrom_attention_kernel import OP, arguments, attributes, inputs

# Any number but 0 is a token.
MASKS = (*kernel_checks.MASKS, "no kind")


def nystrom_inputs(kind: str, tokens: int, taps: int, heads: int = 2, size: int = 64, batch: int = 2) -> Any:
    """Query, key, value, mask and taps."""
    if kind != "no kind":
        return inputs(tokens, kind, taps, heads, size, batch)
    tensors = inputs(tokens, "none", taps, heads, size, batch)
    tensors[3].copy_(torch.randint(-1, 4, (batch, tokens), generator=torch.Generator().manual_seed(tokens)))
    return tensors


def nystrom_arguments(
    tensors: tuple[torch.Tensor, ...], landmarks: int, per_head_init: int = 0, convolution: bool = True
) -> NystromAttention:
    made = arguments(tensors, landmarks, per_head_init)
    if not convolution:
        made.conv_weight, made.taps = None, 0
    return made


def run(
    device: Device, tensors: tuple[torch.Tensor, ...], landmarks: int, per_head_init: int = 0, **how: Any
) -> torch.Tensor:
    made = nystrom_arguments(tensors, landmarks, per_head_init, how.pop("convolution", True))
    return device.run(made, tensors[0].shape, tensors[0].dtype, **how)


def check_nystrom(
    device: Device,
    tensors: tuple[torch.Tensor, ...],
    landmarks: int,
    per_head_init: int = 0,
    layout: str = "without gaps",
    **how: Any,
) -> None:
    tensors = tuple(tensor.to(device.name) for tensor in tensors)
    tensors = (*lay_out(tensors[:4], layout), tensors[4])
    output = run(device, tensors, landmarks, per_head_init, **how)
    if not how.get("convolution", True):
        tensors = (*tensors[:4], torch.zeros_like(tensors[4]))
    options = attributes(tensors, landmarks, per_head_init)
    every_row = torch.ones_like(tensors[3], dtype=torch.bool)
    check_policy(output, OP(*double(tensors), **options), OP(*tensors, **options), every_row)
