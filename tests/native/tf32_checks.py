"""BandedWindowAttention with `allow_tf32`: how far float32 that is rounded to TF32 may be from float64.

TF32 has 10 bits of the fraction, so an operand that is rounded to the nearest is off by at most u = 2^-11 of itself. A
product of two of them has 22 bits and is exact in float32; sums and softmax are float32's, off by some 2^-22.

- A score is off by at most e = (2 u + u^2) scale sum_d |q_d k_d|, so a weight, before it is divided by the sum of all,
  by a factor of exp(-e) to exp(e), and that sum too; weight and value are each rounded once more. So an output is off
  by at most (exp(2 e) (1 + u)^2 - 1) sum_j p_j |v_j|, with the largest e of its row.
- Roundings do not conspire: each is off by u / sqrt(3) in the root mean square at most, a score by
  s = scale u sqrt(2/3) sqrt(sum_d q_d^2 k_d^2), a weight times a value by sqrt(s^2 + 2 u^2 / 3) of itself. Where values
  are independent that is the relative error of all outputs together. With the largest s of all it is the bound.
"""

from __future__ import annotations

from typing import Any

import torch
from native.c_abi import banded_arguments
from native.cuda_abi import Device
from native.cuda_checks import double, lay_out
from native.longformer_cuda_checks import BANDED, kinds_only

UNIT = 2.0**-11


def rounded_to_tf32(tensor: torch.Tensor) -> torch.Tensor:
    """float32 to the nearest number of 10 bits, a tie away from 0."""
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def heads_of(tensor: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, H, N, D) of (B, N, E)."""
    return tensor.unflatten(2, (num_heads, -1)).transpose(1, 2)


def rows_of(heads: torch.Tensor) -> torch.Tensor:
    return heads.transpose(1, 2).flatten(2)


def visible(mask: torch.Tensor, window: int) -> torch.Tensor:
    """(B, 1, N, N): the keys that each row sees."""
    place = torch.arange(mask.shape[1], device=mask.device)
    near = (place[:, None] - place).abs() <= window
    return (near & (mask == 1)[:, None] | (mask == 2)[:, None])[:, None]


def run_tf32(
    device: Device,
    tensors: tuple[torch.Tensor, ...],
    attributes: dict[str, Any],
    layout: str = "without gaps",
    allow: int = 1,
    **how: Any,
) -> torch.Tensor:
    """With `allow_tf32`, or without where `allow` is 0."""
    tensors = lay_out(tuple(tensor.to(device.name) for tensor in tensors), layout)
    arguments = banded_arguments(tensors, tensors[0], attributes | {"allow_tf32": allow})
    return device.run(arguments, tensors[0].shape, tensors[0].dtype, **how)


def check_tf32(
    device: Device, tensors: tuple[torch.Tensor, ...], attributes: dict[str, Any], layout: str = "without gaps"
) -> None:
    """float32, whose rows lie on 16 bytes, within the bounds above."""
    output = run_tf32(device, tensors, attributes, layout)
    query, key, value, mask = double(tuple(tensor.to(device.name) for tensor in tensors))
    mask = kinds_only(mask)
    rows = mask == 1
    exact = BANDED(query, key, value, mask, **attributes)
    assert output.isfinite().all()
    assert (output[~rows] == 0).all()
    if not rows.any():
        return
    scale = attributes["scale"]
    query, key, value = (heads_of(tensor, attributes["num_heads"]) for tensor in (query, key, value))
    seen = visible(mask, attributes["window"])
    scores = (query @ key.transpose(-1, -2) * scale).masked_fill(~seen, -torch.inf)
    weights = scores.softmax(-1).nan_to_num()
    apart = (query.abs() @ key.abs().transpose(-1, -2)).masked_fill(~seen, 0.0).amax(-1, keepdim=True)
    most = (2 * (2 * UNIT + UNIT**2) * scale * apart).exp() * (1 + UNIT) ** 2 - 1
    error = (output.double() - exact).abs()[rows]
    float32 = 2e-6 * exact.abs().max().item()
    assert (error <= rows_of(most * (weights @ value.abs()))[rows] + float32).all()

    squares = (query.square() @ key.square().transpose(-1, -2)).masked_fill(~seen, 0.0)
    of_a_weight = UNIT * (2 / 3 * (scale**2 * squares.max().item() + 1)) ** 0.5
    relative = (error.norm() / exact[rows].norm()).item()
    assert relative <= of_a_weight, f"{relative:g} against {of_a_weight:g}"


def check_each_rounding(device: Device, tensors: tuple[torch.Tensor, ...], attributes: dict[str, Any]) -> None:
    """Of at most 32 tokens and no global one, which are weighed at once: the same computation in float64, with each
    operand rounded where the kernel rounds it.

    What is left is float32's own error, about 1e-6, and a weight here and there that it puts on the other side of a
    tie: below 2^-14 of the whole. An operand that is not rounded, or cut instead, costs 2^-12 and more.
    """
    query, key, value, mask = tensors
    seen = visible(mask, attributes["window"])
    query, key, value = (
        heads_of(rounded_to_tf32(tensor).double(), attributes["num_heads"]) for tensor in (query, key, value)
    )
    scores = (query @ key.transpose(-1, -2) * attributes["scale"]).masked_fill(~seen, -torch.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    context = rounded_to_tf32(weights.float()).double() @ value / weights.sum(-1, keepdim=True)
    output = run_tf32(device, tensors, attributes).cpu()
    rows = mask == 1
    expected = rows_of(context)[rows]
    relative = ((output[rows].double() - expected).norm() / expected.norm()).item()
    assert relative <= 2.0**-14, f"{relative:g}"


def check_exact_off_16_bytes(device: Device, tensors: tuple[torch.Tensor, ...], attributes: dict[str, Any]) -> None:
    """Rows of one input or of the output that do not lie on 16 bytes, by where they begin or by how far apart they are:
    the bits of exact float32.
    """
    exact = run_tf32(device, tensors, attributes, allow=0)
    assert not torch.equal(run_tf32(device, tensors, attributes), exact)
    for which in range(3):
        for before, behind in ((1, 3), (0, 1)):
            given = [tensor.to(device.name) for tensor in tensors]
            given[which] = torch.nn.functional.pad(given[which], (before, behind))[..., before:-behind]
            assert torch.equal(run_tf32(device, tuple(given), attributes), exact)
    assert torch.equal(run_tf32(device, tensors, attributes, offset=4), exact)
    assert torch.equal(run_tf32(device, tensors, attributes, "odd"), exact)
