"""Times the CUDA kernels of the Longformer ops against what PyTorch has, on a machine with an NVIDIA GPU.

    make gpu-bench GPU_BENCH=banded BENCH_ARGS="--tokens 4096"

Contenders, with the same mask and each checked against ours before it is timed: FlexAttention compiled with its block
mask made beforehand, scaled_dot_product_attention with a mask of N x N where that fits, and, where transformers is
importable, its LongformerSelfAttention in eager mode against three Linear layers and both ops. Every round runs all
contenders in turn, all but transformers' module from CUDA graphs; medians count. TFLOP/s are of the band's own pairs of
row and key; bytes are of query, key, value and output, once. Both are set against rates measured in the same run.
`--dtype tf32` is float32 with TF32 allowed, ours by the attribute and PyTorch's by its precision of products, beside
ours without.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
from native.c_abi import banded_arguments, global_arguments
from native.cuda_abi import Device
from race import DTYPES, Run, ceilings, loaded, ours, race, write

HEADS, HEAD_SIZE = 12, 64
WIDTH = HEADS * HEAD_SIZE
TF32 = "tf32"
LARGEST_MASK_BYTES = 2**30  # of SDPA's mask


def token_mask(batch: int, tokens: int, globals_of_row: int, padding: bool) -> torch.Tensor:
    """Globals scattered, one at the start; with padding, row r of the batch loses r / (2 B) of its end."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        if globals_of_row:
            mask[row, torch.randperm(tokens - 1, generator=generator)[: globals_of_row - 1] + 1] = 2
            mask[row, 0] = 2
        if padding and row:
            mask[row, tokens - tokens * row // (2 * batch) :] = 0
    return mask.cuda()


def pairs(mask: torch.Tensor, window: int) -> int:
    """Of a row that attends and a key that it sees."""
    before = torch.nn.functional.pad((mask == 1).long().cumsum(1), (1, 0))
    at = torch.arange(mask.shape[1], device=mask.device)
    last, first = (at + window + 1).clamp(max=mask.shape[1]), (at - window).clamp(min=0)
    seen = before[:, last] - before[:, first] + (mask == 2).sum(1, keepdim=True)
    return int(seen[mask == 1].sum())


def attributes(window: int, allow_tf32: bool | None = None) -> dict[str, Any]:
    """`allow_tf32`: None for what PyTorch's products do."""
    if allow_tf32 is None:
        allow_tf32 = torch.backends.cuda.matmul.allow_tf32
    return {"num_heads": HEADS, "window": window, "scale": HEAD_SIZE**-0.5, "allow_tf32": int(allow_tf32)}


def heads(rows: torch.Tensor) -> torch.Tensor:
    return rows.unflatten(2, (HEADS, HEAD_SIZE)).transpose(1, 2)


def flex(tensors: tuple[torch.Tensor, ...], window: int, scale: float) -> Run:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    query, key, value, mask = tensors

    def visible(b: Any, h: Any, row: Any, at: Any) -> Any:
        return (((row - at).abs() <= window) & (mask[b, at] == 1)) | (mask[b, at] == 2)

    batch, tokens = mask.shape
    blocks = create_block_mask(visible, batch, None, tokens, tokens, device="cuda", _compile=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(heads(query), heads(key), heads(value), block_mask=blocks, scale=scale)


def masked_product(tensors: tuple[torch.Tensor, ...], window: int, scale: float) -> Run | None:
    query, key, value, mask = tensors
    batch, tokens = mask.shape
    if batch * tokens * tokens * query.element_size() > LARGEST_MASK_BYTES:
        return None
    at = torch.arange(tokens, device="cuda")
    near = (at[:, None] - at[None, :]).abs() <= window
    visible = ((near & (mask == 1)[:, None, :]) | (mask == 2)[:, None, :])[:, None]
    attend = torch.nn.functional.scaled_dot_product_attention
    return lambda: attend(heads(query), heads(key), heads(value), attn_mask=visible, scale=scale)


def eager_module(hidden: torch.Tensor, mask: torch.Tensor, window: int) -> tuple[Any, Run] | None:
    """transformers' attention and a call of it; it wants N to be a multiple of 2 W."""
    try:
        from transformers import LongformerConfig
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
    except ImportError:
        return None
    if mask.shape[1] % (2 * window):
        return None
    config = LongformerConfig(hidden_size=WIDTH, num_attention_heads=HEADS, attention_window=[2 * window])
    torch.manual_seed(1)
    module = LongformerSelfAttention(config, 0).to("cuda", hidden.dtype).eval()
    extended = (mask - 1).to(hidden.dtype) * 10000.0
    is_global = mask == 2
    any_global = bool(is_global.any())

    def run() -> torch.Tensor:
        with torch.no_grad():
            rows = module(
                hidden,
                attention_mask=extended,
                is_index_masked=mask == 0,
                is_index_global_attn=is_global,
                is_global_attn=any_global,
            )
        return rows[0]

    return module, run


def layer(device: Device, module: Any, hidden: torch.Tensor, mask: torch.Tensor, window: int) -> Run:
    """What the eager module does, out of Linear layers and our ops."""
    scale = HEAD_SIZE**-0.5
    *rows, output, of_globals = (torch.empty_like(hidden) for _ in range(5))
    linears = (module.query, module.key, module.value)
    banded = ours(device, banded_arguments((*rows, mask), output, attributes(window)), output)
    weights = (
        module.query_global.weight,
        module.query_global.bias,
        module.key_global.weight,
        module.value_global.weight,
        module.value_global.bias,
    )
    listed = ours(
        device,
        global_arguments((hidden, mask, *weights), of_globals, {"num_heads": HEADS, "scale": scale}),
        of_globals,
    )

    def run() -> torch.Tensor:
        with torch.no_grad():
            for linear, row in zip(linears, rows, strict=True):
                torch.addmm(linear.bias, hidden.flatten(0, 1), linear.weight.t(), out=row.flatten(0, 1))
            banded()
            listed()
            return torch.where((mask == 2)[..., None], of_globals, output)

    return run


def difference(output: torch.Tensor, other: torch.Tensor, mask: torch.Tensor) -> float:
    """Relative, over the rows that attend."""
    rows = mask == 1
    one, two = output[rows].double(), other[rows].double()
    return float((one - two).norm() / two.norm())


def measure(device: Device, dtype: torch.dtype, case: dict[str, Any], rates: dict[str, float]) -> dict[str, Any]:
    batch, tokens, window = case["batch"], case["tokens"], case["window"]
    torch.manual_seed(0)
    query, key, value = (torch.randn(batch, tokens, WIDTH, device="cuda").to(dtype) for _ in range(3))
    mask = token_mask(batch, tokens, case["globals"], case["padding"])
    tensors = query, key, value, mask
    scale = HEAD_SIZE**-0.5
    output = torch.empty_like(query)
    contenders: dict[str, Run] = {"lat": ours(device, banded_arguments(tensors, output, attributes(window)), output)}
    if torch.backends.cuda.matmul.allow_tf32:
        exact = torch.empty_like(query)
        contenders["lat_float32"] = ours(device, banded_arguments(tensors, exact, attributes(window, False)), exact)
    result: dict[str, Any] = dict(case)
    if "lat_float32" in contenders:
        result["difference_lat_float32"] = difference(contenders["lat"](), contenders["lat_float32"](), mask)
    for name, run in (("flex", flex(tensors, window, scale)), ("sdpa", masked_product(tensors, window, scale))):
        if run is not None:
            contenders[name] = run
            contenders["lat"]()
            result[f"difference_{name}"] = difference(output, run().transpose(1, 2).flatten(2), mask)
    module = eager_module(query, mask, window)
    if module is not None:
        contenders["transformers_layer"] = module[1]
        contenders["lat_layer"] = layer(device, module[0], query, mask, window)
        rows = contenders["lat_layer"](), module[1]()
        result["difference_layer"] = difference(*rows, mask)
    # transformers' module asks the device which rows are global: no graph can hold it.
    result["times"] = race(contenders, uncaptured=("transformers_layer",))
    ms = {name: one["ms"] for name, one in result["times"].items()}
    flops = 4 * pairs(mask, window) * WIDTH
    result["tflops"] = flops / ms["lat"] / 1e9
    result["share_of_matmul"] = result["tflops"] / rates["matmul_tflops"]
    result["gb_per_s"] = 4 * query.nbytes / ms["lat"] / 1e6
    result["share_of_copy"] = result["gb_per_s"] / rates["copy_gb_per_s"]
    others = ("lat_float32", "flex", "sdpa")
    result["times_faster_than"] = {name: one / ms["lat"] for name, one in ms.items() if name in others}
    if module is not None:
        result["times_faster_than"]["transformers_layer"] = ms["transformers_layer"] / ms["lat_layer"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096, 16384, 32768])
    parser.add_argument("--window", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--globals", type=int, nargs="+", default=[0, 1, 64])
    parser.add_argument("--dtype", choices=[*DTYPES, TF32], default="fp16")
    parser.add_argument("--padding", action="store_true", help="rows of the batch of different lengths")
    arguments = parser.parse_args()
    device, dtype = loaded(), DTYPES["fp32" if arguments.dtype == TF32 else arguments.dtype]
    torch.set_float32_matmul_precision("high" if arguments.dtype == TF32 else "highest")
    rates = ceilings(dtype)
    print(f"{rates['matmul_tflops']:.0f} TFLOP/s of matrix product, {rates['copy_gb_per_s']:.0f} GB/s of copy")
    results = []
    for batch, tokens, window, count in itertools.product(
        arguments.batch, arguments.tokens, arguments.window, arguments.globals
    ):
        case = {"batch": batch, "tokens": tokens, "window": window, "globals": count, "padding": arguments.padding}
        torch._dynamo.reset()
        results.append(measure(device, dtype, case, rates))
        one = results[-1]
        faster = ", ".join(f"{name} {times:.2f}x" for name, times in one["times_faster_than"].items())
        print(
            f"B={batch} N={tokens} W={window} G={count}: {one['times']['lat']['ms']:.3f} ms, "
            f"{one['tflops']:.0f} TFLOP/s ({one['share_of_matmul']:.0%}), "
            f"{one['gb_per_s']:.0f} GB/s ({one['share_of_copy']:.0%}); {faster}",
            flush=True,
        )
        # What was measured so far survives a run that is cut short.
        written = {"dtype": arguments.dtype, "ceilings": rates, "cases": results}
        write(f"banded_{arguments.dtype}{'_padding' if arguments.padding else ''}", written)


if __name__ == "__main__":
    main()
