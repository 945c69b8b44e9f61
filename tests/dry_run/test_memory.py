"""The memory estimate, on graphs whose live sets can be counted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from dry_run.graphs import INT64, rows, tensor, write
from onnx import TensorProto, helper, numpy_helper

from lat_export.dry_run import DryRun
from lat_export.dry_run.examine import flattened
from lat_export.dry_run.memory import value_bytes
from lat_export.dry_run.values import evaluated
from lat_export.ops import StaticBounds
from lat_export.stages.bundle import read_bundle
from lat_export.targets.lowering import bounded
from lat_export.types import Range

pytestmark = pytest.mark.usefixtures("no_plugins")

Examined = Callable[..., DryRun]
node = helper.make_node
# The largest sizes of the profile: 2 rows of 64 tokens.
ROWS = 2 * 64
FLOAT32 = 4


def test_most_that_is_live_at_once(examined: Examined, tmp_path: Path) -> None:
    """x -> wide -> narrow -> y, and the residual x + y: wide and narrow are live together, then narrow alone."""
    weights = [
        numpy_helper.from_array(np.zeros((8, 32), np.float32), "up"),
        numpy_helper.from_array(np.zeros((32, 8), np.float32), "down"),
    ]
    nodes = [
        node("MatMul", ["x", "up"], ["wide"]),
        node("Gelu", ["wide"], ["active"], name="gelu"),
        node("MatMul", ["active", "down"], ["narrow"]),
        node("Add", ["x", "narrow"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, [rows("x", 8)], [rows("y", 8)], initializer=weights)
    memory = examined(path).memory
    assert memory.activations_bytes == 2 * ROWS * 32 * FLOAT32
    assert memory.largest_at == "gelu"
    assert memory.weights_bytes == 2 * 8 * 32 * FLOAT32
    assert memory.bindings_bytes == 2 * ROWS * 8 * FLOAT32
    assert memory.unknown_values == 0
    half = examined(path, sequence=Range(8, 16, 32)).memory
    assert half.activations_bytes * 2 == memory.activations_bytes


@pytest.mark.parametrize("read_later", ["a", "b"])
def test_another_name_takes_no_room_and_keeps_what_it_names(
    read_later: str, examined: Examined, tmp_path: Path
) -> None:
    shape = numpy_helper.from_array(np.array([0, 0, 4, 2]), "shape")
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Reshape", ["a", "shape"], ["b"]),
        node("Neg", ["x"], ["c"]),
        node("Relu", ["c"], ["d"], name="three are live"),
        node("ReduceSum", [read_later], ["e"], keepdims=0),
        node("ReduceMax", ["b"], ["m"], keepdims=0),
        node("ReduceSum", ["d"], ["f"], keepdims=0),
        node("Sum", ["e", "f", "m"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, [rows("x", 8)], [tensor("y")], initializer=[shape])
    memory = examined(path).memory
    assert memory.activations_bytes == 3 * ROWS * 8 * FLOAT32
    assert memory.largest_at == "three are live"


def test_half_precision_takes_half(examined: Examined, tmp_path: Path) -> None:
    def activations(dtype: int) -> int:
        nodes = [node("Relu", ["x"], ["h"]), node("Relu", ["h"], ["y"])]
        path = write(tmp_path / "m.onnx", nodes, [rows("x", 8, dtype)], [rows("y", 8, dtype)])
        return examined(path).memory.activations_bytes

    assert activations(TensorProto.FLOAT16) * 2 == activations(TensorProto.FLOAT)


def test_sizes_that_hang_on_data_are_counted_as_unknown(examined: Examined, tmp_path: Path) -> None:
    nodes = [node("NonZero", ["x"], ["n"]), node("Cast", ["n"], ["y"], to=INT64)]
    path = write(tmp_path / "m.onnx", nodes, [rows("x", 8)], [tensor("y", 3, "found", dtype=INT64)])
    assert examined(path).memory.unknown_values == 1


@pytest.mark.parametrize("family", ["longformer", "nystromformer", "yoso"])
def test_sizes_are_those_that_onnxruntime_sees(family: str, bundles: Callable[[str], Path], tmp_path: Path) -> None:
    """Of every output of every node, in bytes, from onnxruntime's profile of a run."""
    bundle = read_bundle(bundles(family))
    sizes = {"batch": 3, "sequence": 40}
    flat = flattened(bounded(bundle.folder / "model.onnx", StaticBounds(max_global=4)), frozenset())
    for index, one in enumerate(flat.graph):
        one.name = f"n{index}"
    expected = {one.name: one for one in flat.graph}
    point = evaluated(flat, sizes)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    model = ir.to_proto(flat).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {spec.name: np.ones([sizes[d] for d in spec.dims], np.int64) for spec in bundle.signature.inputs})
    events = [event for event in json.loads(Path(session.end_profiling()).read_text()) if event.get("cat") == "Node"]
    seen = 0
    for event in events:
        one = expected.get(event["name"].removesuffix("_kernel_time"))
        if one is None or not event["name"].endswith("_kernel_time"):
            continue  # of a node that onnxruntime put in, or took apart
        ours = sum(value_bytes(point.of(output)) or 0 for output in one.outputs if output.name)
        assert ours == int(event["args"]["output_size"]), one
        seen += 1
    assert seen > 0.8 * len(expected)


def test_every_family_is_known_in_full(examined: Examined, bundles: Callable[[str], Path]) -> None:
    """And grows with the sizes, between linear and quadratic in the length."""
    for family in ("longformer", "nystromformer", "yoso"):
        for target in ("trt", "trt-rtx"):
            short, long = (
                examined(bundles(family), target, sequence=Range(8, 16, tokens)).memory for tokens in (48, 96)
            )
            assert long.unknown_values == 0
            assert 1.5 * short.activations_bytes < long.activations_bytes <= 4 * short.activations_bytes
            assert short.weights_bytes == long.weights_bytes > 100_000
