"""What the tests of lat::LshCumulation's CUDA kernels share, on a GPU and on the device played on the host."""

from __future__ import annotations

from typing import Any

import torch
from native.cuda_abi import Device
from native.cuda_checks import cast, check_policy, double
from native.kernel_checks import MASKS, random_rows
from native.lsh_cumulation_checks import arguments, check, inputs, of_few_bits

from lat_export.ops import OPS
from lat_export.validation.sampled import SampledCheck

REFERENCE = OPS["LshCumulation"].reference
KINDS = (*MASKS, "any kind")  # anything but 0 is a token


def cuda_inputs(
    kind: str, tokens: int, heads: int, head_size: int, hashes: tuple[int, int], batch: int = 3
) -> tuple[torch.Tensor, ...]:
    *rows, mask, projection = inputs(tokens, "none" if kind == "any kind" else kind, heads, head_size, hashes, batch)
    if kind == "any kind":
        generator = torch.Generator().manual_seed(tokens)
        mask = torch.randint(-2, 4, (batch, tokens), generator=generator, dtype=torch.int32)
    return (*rows, mask, projection)


def moved(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, one element further from where memory is aligned."""
    room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)
    room[1:] = tensor.flatten()
    return room[1:].view(tensor.shape)


def lay_out(tensors: tuple[torch.Tensor, ...], layout: str) -> tuple[torch.Tensor, ...]:
    """Query, key and value without gaps; as slices of rows of 3 E; where no row lies on 16 bytes, nor the projection;
    or values alone there."""
    query, key, value, mask, projection = tensors
    if layout == "slices":
        rows = torch.cat((query, key, value), dim=-1).split(query.shape[-1], dim=-1)
        return (*rows, mask, projection)
    if layout == "odd":
        wider = [torch.nn.functional.pad(tensor, (1, 2))[..., 1:-2] for tensor in (query, key, value)]
        return (*wider, mask, moved(projection))
    if layout == "odd values":
        return query, key, torch.nn.functional.pad(value, (1, 2))[..., 1:-2], mask, projection
    return tensors


def run(device: Device, tensors: tuple[torch.Tensor, ...], hashes: tuple[int, int], **how: Any) -> torch.Tensor:
    return device.run(arguments(tensors, hashes), tensors[0].shape, tensors[0].dtype, **how)


def check_cuda(
    device: Device,
    tensors: tuple[torch.Tensor, ...],
    hashes: tuple[int, int],
    layout: str = "without gaps",
    **how: Any,
) -> SampledCheck:
    """Rows that no doubtful sign can reach are right."""
    tensors = lay_out(tuple(tensor.to(device.name) for tensor in tensors), layout)
    return check(run(device, tensors, hashes, **how), tensors, hashes)


def check_exact(device: Device, tensors: tuple[torch.Tensor, ...], hashes: tuple[int, int], dtype: torch.dtype) -> None:
    """Numbers of few bits: every row, zeros among the projections, by the tolerance policy."""
    tensors = cast(of_few_bits(tuple(tensor.to(device.name) for tensor in tensors)), dtype)
    attributes = {"num_heads": tensors[4].shape[0], "num_hash": hashes[0], "hash_code_len": hashes[1]}
    exact, naive = REFERENCE(*double(tensors), **attributes), REFERENCE(*tensors, **attributes)
    check_policy(run(device, tensors, hashes), exact, naive, tensors[3] != 0)


def check_long_runs(device: Device, tensors: tuple[torch.Tensor, ...], hashes: tuple[int, int], alike: float) -> None:
    """A share of the keys is one key, and of the queries too: runs over many groups of threads."""
    query, key, *others = tensors
    tokens = query.shape[1]
    chosen = torch.rand(tokens, generator=torch.Generator().manual_seed(1)) < alike
    query, key = query.clone(), key.clone()
    query[:, chosen] = key[:, chosen] = query[:, :1].clone()
    check_cuda(device, (query, key, *others), hashes)


def check_meets_itself(device: Device, dtype: torch.dtype, tokens: int, hashes: tuple[int, int]) -> None:
    """Where queries are the keys and value j is 1 in column j alone, output i is how often i meets each j: each itself
    in every hash, whatever the signs near zero, and two tokens each other equally often."""
    (rows,) = random_rows((2, tokens, 128), seed=5, count=1, size=1.0)
    (projection,) = random_rows((1, 128, hashes[0] * hashes[1]), seed=6, count=1, size=1.0)
    value = torch.eye(128)[:tokens].expand(2, tokens, 128).contiguous()
    mask = torch.ones(2, tokens, dtype=torch.int32)
    tensors = tuple(t.to(device.name) for t in cast((rows, rows.clone(), value, mask, projection), dtype))
    output = run(device, tensors, hashes)[..., :tokens].double()
    shares = output / output.diagonal(dim1=1, dim2=2)[..., None]
    counts = shares * hashes[0]
    rounding = 2 * hashes[0] * max(torch.finfo(dtype).eps, 1e-6)
    assert rounding < 0.4  # counts can be told apart
    assert shares.isfinite().all()
    assert (counts - counts.round()).abs().max() <= rounding
    assert torch.equal(counts.round(), counts.round().transpose(1, 2))
    assert (counts.round() <= hashes[0]).all()
    assert (shares.flatten(1).sum(1) > tokens).all()  # and some meet others
