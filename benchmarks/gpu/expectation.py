"""Times lat::BernoulliExpectation's CUDA kernels against the formula of transformers, on a machine with an NVIDIA GPU.

    make gpu-bench GPU_BENCH=expectation BENCH_ARGS="--tokens 4096"

Contenders: what transformers' YosoSelfAttention does between its Linear layers with use_expectation=True, eager and
under torch.compile (its `expectation`, masked, times the values, normalised; written out below, so that nothing of
transformers is needed), where its weights of N x N fit. Its formula has no clip and is rounded to the element type at
every step, so a difference of some per cent says little; `difference_float32` is against the same in float32 and with
the clip, of the first row of the batch. All from CUDA graphs, in turn; medians count.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from dense import HEADS, difference, heads, joined, random_rows, rate, run, token_mask, weights_fit
from native.bernoulli_expectation_cuda_checks import arguments
from native.cuda_abi import Device
from race import Run, ours, race

BITS = 9
LARGEST_CHECK_TOKENS = 8192


def formula(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """transformers' YosoSelfAttention and YosoCumulation.forward, transformers 5.x."""
    normalize = torch.nn.functional.normalize
    q, k = normalize(heads(query), dim=-1), normalize(heads(key), dim=-1)
    kept = mask.to(query.dtype)[:, None]
    expectation = (1 - torch.acos(torch.matmul(q, k.transpose(-1, -2))) / math.pi) ** BITS
    expectation = expectation * kept[..., :, None] * kept[..., None, :]
    return joined(normalize(torch.matmul(expectation, heads(value)), dim=-1))


def exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """In float32, 1024 rows at a time."""
    normalize = torch.nn.functional.normalize
    q, k, v = (heads(rows.float()) for rows in (query, key, value))
    k = normalize(k, dim=-1).transpose(-1, -2)
    context = [
        ((1 - (normalize(rows, dim=-1) @ k).clamp(-1, 1).acos() / math.pi) ** BITS * (mask != 0)[:, None, None]) @ v
        for rows in q.split(1024, dim=2)
    ]
    return joined(normalize(torch.cat(context, dim=2), dim=-1))


def measure(device: Device, dtype: torch.dtype, case: dict[str, Any]) -> dict[str, Any]:
    batch, tokens = case["batch"], case["tokens"]
    tensors = (*random_rows(batch, tokens, dtype), token_mask(batch, tokens, case["padding"]))
    output = torch.empty(batch, tokens, tensors[0].shape[-1], dtype=dtype, device="cuda")
    contenders: dict[str, Run] = {"lat": ours(device, arguments(tensors, HEADS, BITS), output)}
    contenders["lat"]()
    result: dict[str, Any] = {}
    if tokens <= LARGEST_CHECK_TOKENS:
        first = tuple(tensor[:1] for tensor in tensors)
        result["difference_float32"] = difference(output[:1], exact(*first), first[3])
    if weights_fit(batch, tokens, dtype):
        compiled = torch.compile(formula, dynamic=False)
        contenders["eager"] = lambda: formula(*tensors)
        contenders["compile"] = lambda: compiled(*tensors)
        for name in ("eager", "compile"):
            result[f"difference_{name}"] = difference(output, contenders[name](), tensors[3])
    result["times"] = race(contenders)
    return {**result, **rate(case, tensors[3], True, result["times"]["lat"]["ms"], dtype)}


if __name__ == "__main__":
    run("expectation", __doc__, measure)
