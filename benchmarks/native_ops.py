"""Measures the native ops in onnxruntime against their bodies and their PyTorch references, op by op.

    python benchmarks/native_ops.py
    python benchmarks/native_ops.py --op LshCumulation --tokens 512 --tokens 4096 --repeat 7

All ops at B = 1, H = 12, D = 64 in float32. The operations of an op are those that its contract needs:
multiplications and additions of its matrix products, no exponentials.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from lat_export import native
from lat_export.bench.settling import settle
from lat_export.environment import provenance
from lat_export.ops import DOMAIN, DOMAIN_VERSION, OPS, OPSET_VERSION
from lat_export.ops.contract import PLUGIN_ATTRIBUTES

RESULTS = Path(__file__).resolve().parent / "results"
HEADS, WIDTH, WINDOW = 12, 768, 256
SIZE = WIDTH // HEADS
LANDMARKS, TAPS, PINV_PRODUCTS = 64, 65, 6 * 4
HASHES, BITS = 64, 9
SIDE = 2048  # of the matrix product
LENGTHS = (512, 1024, 2048, 4096)
# Of the ops whose cost is linear in N.
MORE_LENGTHS = dict.fromkeys(("BandedWindowAttention", "NystromAttention", "LshCumulation"), (8192, 16384))
WITH_GLOBALS = ("BandedWindowAttention", "GlobalTokenAttention")
# The dense references hold H * N * N scores: beyond this they measure memory, not attention.
LONGEST_REFERENCE = 4096
# The sampled op's body and reference make one-hot codes and tables: beyond this they take minutes or all memory.
LONGEST_SAMPLED_BODY = 1024


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
    """As a linear layer: the right side is a weight."""
    rows = ir.Value(name="rows", shape=ir.Shape([SIDE, SIDE]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="weight", const_value=ir.tensor(normal(SIDE, SIDE).numpy(), name="weight"))
    node = ir.node("MatMul", [rows, weight])
    node.outputs[0].name, node.outputs[0].type = "product", ir.TensorType(ir.DataType.FLOAT)
    opsets = {"": OPSET_VERSION}
    graph = ir.Graph([rows], node.outputs, nodes=[node], initializers=[weight], name="product", opset_imports=opsets)
    return ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()


def session(model: bytes, threads: int, library: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # the sessions take turns
    if library:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bound(opened: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> Callable[[], None]:
    """A run into memory that is there, as in a model: fresh pages for an output can take as long as the op."""
    binding = opened.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    (output,) = opened.get_outputs()
    result = np.empty_like(next(iter(feeds.values())))  # every op, and the product, has the shape of its first input
    binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(result))
    return lambda: opened.run_with_iobinding(binding)


@dataclass(frozen=True)
class Case:
    """One op at one length: what a node of it has and takes, and the operations that its contract needs."""

    attributes: dict[str, Any]
    tensors: tuple[torch.Tensor, ...]
    operations: int


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def banded(rows: list[torch.Tensor], mask: torch.Tensor, globals_in_row: int) -> Case:
    keys = min(mask.shape[1], 2 * WINDOW + 1 + globals_in_row)
    attributes = {"num_heads": HEADS, "scale": SIZE**-0.5, "window": WINDOW}
    return Case(attributes, (*rows, mask), 4 * mask.shape[1] * keys * WIDTH)


def global_tokens(rows: list[torch.Tensor], mask: torch.Tensor, globals_in_row: int) -> Case:
    """The cheaper of the op's two forms."""
    weights, bias = [normal(WIDTH, WIDTH) * WIDTH**-0.5 for _ in range(3)], normal(WIDTH)
    tensors = (rows[0], mask, weights[0], bias, weights[1], weights[2], bias)
    heads = min(WIDTH + globals_in_row, HEADS * globals_in_row)
    return Case({"num_heads": HEADS, "scale": SIZE**-0.5}, tensors, 4 * mask.shape[1] * WIDTH * heads)


def nystrom(rows: list[torch.Tensor], mask: torch.Tensor, _globals: int) -> Case:
    attributes = {"num_heads": HEADS, "num_landmarks": LANDMARKS, "per_head_init": 0}
    operations = mask.shape[1] * WIDTH * (8 * LANDMARKS + 2 * TAPS) + PINV_PRODUCTS * 2 * LANDMARKS**3 * HEADS
    return Case(attributes, (*rows, mask, normal(HEADS, TAPS) * 0.1), operations)


def lsh(rows: list[torch.Tensor], mask: torch.Tensor, _globals: int) -> Case:
    """Codes of queries and keys, and two additions of a row for each hash."""
    attributes = {"num_heads": HEADS, "num_hash": HASHES, "hash_code_len": BITS}
    operations = mask.shape[1] * WIDTH * HASHES * (2 * 2 * BITS + 2)
    return Case(attributes, (*rows, mask, normal(HEADS, SIZE, HASHES * BITS)), operations)


def bernoulli(rows: list[torch.Tensor], mask: torch.Tensor, _globals: int) -> Case:
    return Case({"num_heads": HEADS, "hash_code_len": BITS}, (*rows, mask), 4 * mask.shape[1] ** 2 * WIDTH)


def full(rows: list[torch.Tensor], mask: torch.Tensor, _globals: int) -> Case:
    operations = mask.shape[1] * WIDTH * (4 * mask.shape[1] + 2 * TAPS)
    return Case({"num_heads": HEADS}, (*rows, mask, normal(HEADS, TAPS) * 0.1), operations)


CASES: dict[str, Callable[[list[torch.Tensor], torch.Tensor, int], Case]] = {
    "BandedWindowAttention": banded,
    "GlobalTokenAttention": global_tokens,
    "NystromAttention": nystrom,
    "LshCumulation": lsh,
    "BernoulliExpectation": bernoulli,
    "FullAttention": full,
}


def case_of(name: str, tokens: int, globals_in_row: int) -> Case:
    mask = torch.ones(1, tokens, dtype=torch.int32)
    if name in WITH_GLOBALS:
        mask[:, :globals_in_row] = 2
    return CASES[name]([normal(1, tokens, WIDTH) for _ in range(3)], mask, globals_in_row)


def interleaved(runs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """Milliseconds of every repetition, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(repeat + 1):
        for name, run in runs.items():
            settle(os.getpid())  # PyTorch's threads spin on after a run
            started = time.perf_counter()
            run()
            if round_number:
                taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


def measure(name: str, tokens: int, globals_in_row: int, threads: int, repeat: int, library: Path) -> dict[str, Any]:
    case = case_of(name, tokens, globals_in_row)
    model = op_model(name, case.attributes)
    feeds = {port.name: tensor.numpy() for port, tensor in zip(OPS[name].inputs, case.tensors, strict=True)}
    with_ops, bodies, product = (
        session(model, threads, library),
        session(model, threads),
        session(product_model(), threads),
    )
    side = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    runs: dict[str, Callable[[], Any]] = {
        "native": bound(with_ops, feeds),
        "matrix product": bound(product, {"rows": side}),
    }
    if name != "LshCumulation" or tokens <= LONGEST_SAMPLED_BODY:
        runs["body"] = bound(bodies, feeds)
    if tokens <= LONGEST_REFERENCE:
        runs["PyTorch reference"] = lambda: OPS[name].reference(*case.tensors, **case.attributes)
    taken = interleaved(runs, repeat)
    median = {form: statistics.median(times) for form, times in taken.items()}
    product_rate = 2 * SIDE**3 / median["matrix product"] / 1e6
    return {
        "op": name,
        "tokens": tokens,
        "globals": globals_in_row if name in WITH_GLOBALS else 0,
        "ms": {form: [round(t, 3) for t in times] for form, times in taken.items()},
        "median_ms": {form: round(t, 3) for form, t in median.items()},
        "native_is_faster_than": {
            form: round(median[form] / median["native"], 2) for form in ("body", "PyTorch reference") if form in median
        },
        "native_gflops": round(case.operations / median["native"] / 1e6, 1),
        "matrix_product_gflops": round(product_rate, 1),
        "native_over_floor": round(median["native"] / (case.operations / product_rate / 1e6), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", choices=CASES, action="append", help="may be repeated; default all")
    parser.add_argument(
        "--tokens", type=int, action="append", help=f"may be repeated; default {LENGTHS}, and 8192, 16384 where linear"
    )
    parser.add_argument("--globals", type=int, default=1, help="global tokens in the row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7, help="at least 5")
    parser.add_argument("--out", type=Path, default=RESULTS / "native_ops.json")
    arguments = parser.parse_args()
    library = native.demand_ort_library()
    torch.set_num_threads(arguments.threads)
    before = os.getloadavg()
    rows = []
    for name in arguments.op or CASES:
        for tokens in arguments.tokens or (*LENGTHS, *MORE_LENGTHS.get(name, ())):
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
    path = arguments.out
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
