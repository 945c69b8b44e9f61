"""Times lat::FullAttention's CUDA kernels against what PyTorch has, on a machine with an NVIDIA GPU.

    make gpu-bench GPU_BENCH=full BENCH_ARGS="--tokens 4096"

Contender: scaled_dot_product_attention plus the depthwise convolution of the values (conv2d in groups), what
Nystroemformer's exact branch comes to. Without padding there is no mask and FlashAttention runs; with it the mask is
one of keys. `lat_attention` and `sdpa` are the same without the convolution. All from CUDA graphs, in turn; medians
count. TFLOP/s and bytes leave the convolution out.
"""

from __future__ import annotations

from typing import Any

import torch
from dense import HEADS, difference, heads, joined, random_rows, rate, run, token_mask
from native.cuda_abi import Device
from native.full_attention_cuda_checks import arguments
from race import Run, ours, race

TAPS = 65


def measure(device: Device, dtype: torch.dtype, case: dict[str, Any]) -> dict[str, Any]:
    batch, tokens = case["batch"], case["tokens"]
    query, key, value = random_rows(batch, tokens, dtype)
    mask = token_mask(batch, tokens, case["padding"])
    weight = (torch.randn(HEADS, TAPS, device="cuda") * TAPS**-0.5).to(dtype)
    tensors = query, key, value, mask, weight
    visible = (mask != 0)[:, None, None, :] if case["padding"] else None
    output, attended = (torch.empty(batch, tokens, query.shape[-1], dtype=dtype, device="cuda") for _ in range(2))

    def sdpa() -> torch.Tensor:
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(heads(query), heads(key), heads(value), attn_mask=visible)

    def torch_op() -> torch.Tensor:
        convolved = torch.nn.functional.conv2d(
            heads(value), weight[:, None, :, None], padding=(TAPS // 2, 0), groups=HEADS
        )
        return sdpa() + convolved

    contenders: dict[str, Run] = {
        "lat": ours(device, arguments(tensors), output),
        "lat_attention": ours(device, arguments(tensors, convolution=False), attended),
        "torch": torch_op,
        "sdpa": sdpa,
    }
    for name in ("lat", "lat_attention"):
        contenders[name]()
    result: dict[str, Any] = {
        "difference_torch": difference(output, joined(torch_op()), mask),
        "difference_sdpa": difference(attended, joined(sdpa()), mask),
    }
    result["times"] = race(contenders)
    ms = {name: one["ms"] for name, one in result["times"].items()}
    result["attention_times_faster_than_sdpa"] = ms["sdpa"] / ms["lat_attention"]
    return {**result, **rate(case, mask, False, ms["lat_attention"], dtype)}


if __name__ == "__main__":
    run("full", __doc__, measure)
