"""Times the CUDA kernels of lat::NystromAttention against PyTorch, on a machine with an NVIDIA GPU.

    make gpu-bench GPU_BENCH=nystrom BENCH_ARGS="--tokens 4096"

Contenders: the same formula in PyTorch, all of it in the inputs' type as transformers runs it, but with the products in
the cheaper order, eager and compiled; each is set beside ours before it is timed. Every round runs all contenders in
turn, from CUDA graphs; medians count. Bytes are of query, key, value and output, once; the floor is what a copy of as
many bytes takes by the rate measured in the same run. --kernels adds the time of each kernel of ours, from a profile.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
from native.c_abi import DTYPES as CODES
from native.c_abi import NystromAttention, Rows
from native.cuda_abi import Device
from race import DTYPES, Run, ceilings, loaded, ours, race, write

HEADS, HEAD_SIZE = 12, 64
WIDTH = HEADS * HEAD_SIZE
ITERATIONS = 6  # of the pseudo-inverse
MASKED = -1e4  # a score that float16 holds


def formula(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    landmarks: int,
) -> torch.Tensor:
    q, k, v = (rows.unflatten(2, (HEADS, HEAD_SIZE)).transpose(1, 2) for rows in (query, key, value))
    q, k = q * HEAD_SIZE**-0.25, k * HEAD_SIZE**-0.25
    of_query, of_key = (rows.unflatten(2, (landmarks, -1)).mean(-2) for rows in (q, k))
    kernel_1 = (q @ of_key.mT).softmax(-1)
    kernel_2 = (of_query @ of_key.mT).softmax(-1)
    kernel_3 = (of_query @ k.mT).masked_fill((mask == 0)[:, None, None, :], MASKED).softmax(-1)
    inverse = kernel_2.mT / kernel_2.sum(-2).max()
    identity = torch.eye(landmarks, dtype=q.dtype, device=q.device)
    for _ in range(ITERATIONS):
        product = kernel_2 @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = (0.25 * inverse) @ (13 * identity - product @ inner)
    context = kernel_1 @ (inverse @ (kernel_3 @ v))
    taps = weight[:, None, :, None]
    context = context + torch.nn.functional.conv2d(v, taps, padding=(weight.shape[1] // 2, 0), groups=HEADS)
    return context.transpose(1, 2).flatten(2)


def arguments_of(tensors: tuple[torch.Tensor, ...], landmarks: int) -> NystromAttention:
    query, key, value, mask, weight = tensors
    return NystromAttention(
        *query.shape,
        HEADS,
        landmarks,
        weight.shape[1],
        CODES[query.dtype],
        0,
        *(Rows.of(tensor) for tensor in (query, key, value, query)),
        mask.data_ptr(),
        weight.data_ptr(),
    )


def kernel_times(run: Run) -> dict[str, float]:
    """Microseconds of each kernel of one call."""
    calls = 20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
    return {event.key: event.device_time_total / calls for event in profile.key_averages()}


def difference(output: torch.Tensor, other: torch.Tensor) -> float:
    one, two = output.double(), other.double()
    return float((one - two).norm() / two.norm())


def measure(device: Device, dtype: torch.dtype, case: dict[str, Any], rates: dict[str, float]) -> dict[str, Any]:
    batch, tokens, landmarks = case["batch"], case["tokens"], case["landmarks"]
    torch.manual_seed(0)
    query, key, value = (torch.randn(batch, tokens, WIDTH, device="cuda").to(dtype) for _ in range(3))
    mask = torch.ones(batch, tokens, dtype=torch.int32, device="cuda")
    if case["padding"]:
        for row in range(1, batch):
            mask[row, tokens - tokens * row // (2 * batch) :] = 0
    weight = (0.1 * torch.randn(HEADS, case["taps"], device="cuda")).to(dtype)
    tensors = query, key, value, mask, weight
    output = torch.empty_like(query)
    compiled = torch.compile(formula, dynamic=False)
    contenders: dict[str, Run] = {
        "lat": ours(device, arguments_of(tensors, landmarks), output),
        "eager": lambda: formula(*tensors, landmarks),
        "compiled": lambda: compiled(*tensors, landmarks),
    }
    result: dict[str, Any] = dict(case)
    contenders["lat"]()
    with torch.no_grad():
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            floats = (tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors)
            exact = formula(*floats, landmarks)
        result["difference_fp32"] = difference(output, exact)
        for name in ("eager", "compiled"):
            result[f"difference_{name}_fp32"] = difference(contenders[name](), exact)
        del exact
        result["times"] = race(contenders)
        if case["kernels"]:
            result["kernels_us"] = kernel_times(contenders["lat"])
    ms = {name: one["ms"] for name, one in result["times"].items()}
    result["gb_per_s"] = 4 * query.nbytes / ms["lat"] / 1e6
    result["share_of_copy"] = result["gb_per_s"] / rates["copy_gb_per_s"]
    result["times_the_floor"] = 1 / result["share_of_copy"]
    result["times_faster_than"] = {name: ms[name] / ms["lat"] for name in ("eager", "compiled")}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--landmarks", type=int, nargs="+", default=[64])
    parser.add_argument("--taps", type=int, default=65)
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--padding", action="store_true", help="rows of the batch of different lengths")
    parser.add_argument("--kernels", action="store_true", help="also the time of each kernel")
    arguments = parser.parse_args()
    device, dtype = loaded(), DTYPES[arguments.dtype]
    rates = ceilings(dtype)
    print(f"{rates['matmul_tflops']:.0f} TFLOP/s of matrix product, {rates['copy_gb_per_s']:.0f} GB/s of copy")
    results = []
    for batch, tokens, landmarks in itertools.product(arguments.batch, arguments.tokens, arguments.landmarks):
        case = {
            "batch": batch,
            "tokens": tokens,
            "landmarks": landmarks,
            "taps": arguments.taps,
            "padding": arguments.padding,
            "kernels": arguments.kernels,
        }
        torch._dynamo.reset()
        results.append(measure(device, dtype, case, rates))
        one = results[-1]
        faster = ", ".join(f"{name} {times:.2f}x" for name, times in one["times_faster_than"].items())
        print(
            f"B={batch} N={tokens} L={landmarks}: {1e3 * one['times']['lat']['ms']:.1f} us, "
            f"{one['gb_per_s']:.0f} GB/s, {one['times_the_floor']:.2f}x the floor; {faster}; "
            f"off fp32 by {one['difference_fp32']:.1e}, eager {one['difference_eager_fp32']:.1e}",
            flush=True,
        )
        for kernel, us in one.get("kernels_us", {}).items():
            print(f"  {us:8.1f} us  {kernel[:100]}")
        # What was measured so far survives a run that is cut short.
        written = {"dtype": arguments.dtype, "ceilings": rates, "cases": results}
        write(f"nystrom_{arguments.dtype}{'_padding' if arguments.padding else ''}", written)


if __name__ == "__main__":
    main()
