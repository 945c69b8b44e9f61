"""Measures the native ops in onnxruntime against their bodies and their PyTorch references, op by op.

    python benchmarks/native_ops.py --tokens 512 --tokens 4096 --repeat 7

Every repetition runs all forms in turn, so that noise hits all alike; ratios of medians are what counts. The rate of
onnxruntime's own matrix product is measured between them. While others use the machine the figures are no good beyond
their ratios, and those are rough: the load average before and after is in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from lat_export import native
from lat_export.environment import provenance
from lat_export.ops import DOMAIN, DOMAIN_VERSION, OPS, OPSET_VERSION
from lat_export.ops.contract import PLUGIN_ATTRIBUTES

RESULTS = Path(__file__).resolve().parent / "results"
HEADS, WIDTH, WINDOW = 12, 768, 256
SIDE = 2048  # of the matrix product
# The dense references hold H * N * N scores: beyond this they measure memory, not attention.
LONGEST_REFERENCE = 4096


def op_model(name: str, attributes: dict[str, Any]) -> bytes:
    """One node and its body."""
    op = OPS[name]
    kinds = [ir.DataType.INT32 if port.dtypes == ("int32",) else ir.DataType.FLOAT for port in op.inputs]
    inputs = [
        ir.Value(name=port.name, shape=ir.Shape(port.dims), type=ir.TensorType(kind))
        for port, kind in zip(op.inputs, kinds, strict=True)
    ]
    output = ir.Value(name="output", shape=ir.Shape(op.inputs[0].dims), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node(name, inputs, {**attributes, **PLUGIN_ATTRIBUTES}, domain=DOMAIN, outputs=[output])
    opsets = {"": OPSET_VERSION, DOMAIN: DOMAIN_VERSION}
    graph = ir.Graph(inputs, [output], nodes=[node], name=name, opset_imports=opsets)
    return ir.to_proto(ir.Model(graph, ir_version=10, functions=[op.function()])).SerializeToString()


def product_model() -> bytes:
    sides = [ir.Value(name=n, shape=ir.Shape([SIDE, SIDE]), type=ir.TensorType(ir.DataType.FLOAT)) for n in "ab"]
    node = ir.node("MatMul", sides)
    node.outputs[0].name, node.outputs[0].type = "c", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(sides, node.outputs, nodes=[node], name="product", opset_imports={"": OPSET_VERSION})
    return ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()


def session(model: bytes, threads: int, library: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if library:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def inputs_of(name: str, tokens: int, globals_in_row: int) -> tuple[torch.Tensor, ...]:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))

    mask = torch.ones(1, tokens, dtype=torch.int32)
    mask[:, :globals_in_row] = 2
    rows = [normal(1, tokens, WIDTH) for _ in range(3)]
    if name == "BandedWindowAttention":
        return (*rows, mask)
    weights = [normal(WIDTH, WIDTH) * WIDTH**-0.5 for _ in range(3)]
    bias = normal(WIDTH)
    return rows[0], mask, weights[0], bias, weights[1], weights[2], bias


def useful_operations(name: str, tokens: int, globals_in_row: int) -> int:
    """Those that the contract needs: banded rows have min(N, 2 W + 1 + G) keys; global rows the cheaper form."""
    if name == "BandedWindowAttention":
        return 4 * tokens * min(tokens, 2 * WINDOW + 1 + globals_in_row) * WIDTH
    full = 4 * tokens * WIDTH * (WIDTH + globals_in_row)
    return min(full, 4 * HEADS * globals_in_row * tokens * WIDTH)


def interleaved(runs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """Milliseconds of every repetition, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(repeat + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if round_number:
                taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


def measure(name: str, tokens: int, globals_in_row: int, threads: int, repeat: int, library: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = {"num_heads": HEADS, "scale": (WIDTH // HEADS) ** -0.5}
    if name == "BandedWindowAttention":
        attributes["window"] = WINDOW
    model, tensors = op_model(name, attributes), inputs_of(name, tokens, globals_in_row)
    feeds = {port.name: tensor.numpy() for port, tensor in zip(OPS[name].inputs, tensors, strict=True)}
    with_ops, bodies, product = (
        session(model, threads, library),
        session(model, threads),
        session(product_model(), threads),
    )
    side = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    runs: dict[str, Callable[[], Any]] = {
        "native": lambda: with_ops.run(None, feeds),
        "body": lambda: bodies.run(None, feeds),
        "matrix product": lambda: product.run(None, {"a": side, "b": side}),
    }
    if tokens <= LONGEST_REFERENCE:
        runs["PyTorch reference"] = lambda: OPS[name].reference(*tensors, **attributes)
    taken = interleaved(runs, repeat)
    median = {form: statistics.median(times) for form, times in taken.items()}
    operations = useful_operations(name, tokens, globals_in_row)
    product_rate = 2 * SIDE**3 / median["matrix product"] / 1e6
    return {
        "op": name,
        "tokens": tokens,
        "globals": globals_in_row,
        "ms": {form: [round(t, 3) for t in times] for form, times in taken.items()},
        "median_ms": {form: round(t, 3) for form, t in median.items()},
        "native_is_faster_than": {
            form: round(median[form] / median["native"], 2) for form in ("body", "PyTorch reference") if form in median
        },
        "native_gflops": round(operations / median["native"] / 1e6, 1),
        "matrix_product_gflops": round(product_rate, 1),
        "native_over_floor": round(median["native"] / (operations / product_rate / 1e6), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, action="append", help="may be repeated; default 512, 1024, 2048, 4096")
    parser.add_argument("--globals", type=int, default=1, help="global tokens in the row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7, help="at least 5")
    arguments = parser.parse_args()
    library = native.demand_ort_library()
    torch.set_num_threads(arguments.threads)
    before = os.getloadavg()
    rows = []
    for name in ("BandedWindowAttention", "GlobalTokenAttention"):
        for tokens in arguments.tokens or (512, 1024, 2048, 4096):
            row = measure(name, tokens, arguments.globals, arguments.threads, max(5, arguments.repeat), library)
            rows.append(row)
            print({key: value for key, value in row.items() if key != "ms"})
    plugins = native.plugins()
    results = {
        **provenance(),
        "threads": arguments.threads,
        "instruction_set": plugins.arch if plugins else None,
        "load_average": {"before": before, "after": os.getloadavg()},
        "rows": rows,
    }
    path = RESULTS / "native_ops.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
