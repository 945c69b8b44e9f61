"""What the benchmarks of the ops in which every row sees every key share (expectation.py, full.py)."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import torch
from native.cuda_abi import Device
from race import DTYPES, ceilings, loaded, write

HEADS, HEAD_SIZE = 12, 64
WIDTH = HEADS * HEAD_SIZE
LARGEST_WEIGHTS_BYTES = 4 * 2**30  # of one array of B H N N: eager formulas hold several, and each graph its own

Measure = Callable[[Device, torch.dtype, dict[str, Any]], dict[str, Any]]


def token_mask(batch: int, tokens: int, padding: bool) -> torch.Tensor:
    """With padding, row r of the batch loses r / (2 B) of its end."""
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(1, batch if padding else 0):
        mask[row, tokens - tokens * row // (2 * batch) :] = 0
    return mask.cuda()


def random_rows(batch: int, tokens: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Query, key and value as one product of three gives them: slices of rows of 3 E."""
    torch.manual_seed(0)
    return torch.randn(batch, tokens, 3 * WIDTH, device="cuda").to(dtype).split(WIDTH, dim=-1)


def heads(rows: torch.Tensor) -> torch.Tensor:
    """(B, N, E) -> (B, H, N, D)"""
    return rows.unflatten(2, (HEADS, HEAD_SIZE)).transpose(1, 2)


def joined(rows: torch.Tensor) -> torch.Tensor:
    """(B, H, N, D) -> (B, N, E)"""
    return rows.transpose(1, 2).flatten(2)


def weights_fit(batch: int, tokens: int, dtype: torch.dtype) -> bool:
    return batch * HEADS * tokens * tokens * dtype.itemsize <= LARGEST_WEIGHTS_BYTES


def difference(output: torch.Tensor, other: torch.Tensor, mask: torch.Tensor) -> float:
    """Relative, over the rows that are tokens."""
    one, two = output[mask != 0].double(), other[mask != 0].double()
    return float((one - two).norm() / two.norm())


def rate(case: dict[str, Any], mask: torch.Tensor, row_is_token: bool, ms: float, dtype: torch.dtype) -> dict[str, Any]:
    """TFLOP/s of the pairs of row and key that count; bytes are of query, key, value and output, once."""
    keys = (mask != 0).sum(1).double()
    rows = keys if row_is_token else torch.full_like(keys, case["tokens"])
    flops, moved = 4 * float((rows * keys).sum()) * WIDTH, 4 * mask.numel() * WIDTH * dtype.itemsize
    return {"tflops": flops / ms / 1e9, "gb_per_s": moved / ms / 1e6}


def run(name: str, description: str | None, measure: Measure) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--padding", action="store_true", help="rows of the batch of different lengths")
    arguments = parser.parse_args()
    device, dtype = loaded(), DTYPES[arguments.dtype]
    rates = ceilings(dtype)
    print(f"{rates['matmul_tflops']:.0f} TFLOP/s of matrix product, {rates['copy_gb_per_s']:.0f} GB/s of copy")
    results = []
    for batch, tokens in itertools.product(arguments.batch, arguments.tokens):
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        case = {"batch": batch, "tokens": tokens, "padding": arguments.padding}
        result = {**case, **measure(device, dtype, case)}
        result["share_of_matmul"] = result["tflops"] / rates["matmul_tflops"]
        result["share_of_copy"] = result["gb_per_s"] / rates["copy_gb_per_s"]
        ms = {one: timed["ms"] for one, timed in result["times"].items()}
        result["times_faster_than"] = {one: other / ms["lat"] for one, other in ms.items() if not one.startswith("lat")}
        results.append(result)
        faster = ", ".join(f"{one} {times:.2f}x" for one, times in result["times_faster_than"].items())
        print(
            f"B={batch} N={tokens}: {ms['lat']:.3f} ms, {result['tflops']:.0f} TFLOP/s "
            f"({result['share_of_matmul']:.0%}), {result['gb_per_s']:.0f} GB/s ({result['share_of_copy']:.0%}); "
            f"{faster}",
            flush=True,
        )
        # What was measured so far survives a run that is cut short.
        written = {"dtype": arguments.dtype, "ceilings": rates, "cases": results}
        write(f"{name}_{arguments.dtype}{'_padding' if arguments.padding else ''}", written)
