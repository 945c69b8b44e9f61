"""All models in half precision: element types as the policy says, each weight narrowed once, errors within the band."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from conftest import FAMILY_TASKS, GOLDEN, ROOT

from lat_export.onnx_file import save
from lat_export.ops import OPS
from lat_export.precision import FLOAT32, HALF, MOVES, POLICY, Rule, convert, rule_of
from lat_export.stages import trace as tracing
from lat_export.stages.float32_parts import MARGIN, needed
from lat_export.stages.graph import Graph, build_graph
from lat_export.stages.load import load
from lat_export.types import ModelSpec
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.tolerance import RELATIVE_L2

# Golden checkpoints, whose attention was sharpened, that bfloat16 in every part moves out of its band.
TOO_SHARP_FOR_BFLOAT16 = {
    *(("longformer", task) for task in ("feature-extraction", "fill-mask", "multiple-choice")),
    *(("longformer", task) for task in ("question-answering", "text-classification")),
    *(("nystromformer", task) for task in ("fill-mask", "multiple-choice")),
    *(("nystromformer", task) for task in ("question-answering", "text-classification")),
}
TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
NUMBERS = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
Get = Callable[[str, str], "Whole"]
Weights = dict[str, "np.ndarray[Any, Any]"]
HALVES = ("fp16", "bf16")


@dataclass(frozen=True)
class Whole:
    """A golden checkpoint as the portable model in float32."""

    graph: Graph
    golden: Golden


@pytest.fixture(scope="module")
def half_precision() -> Iterator[ModuleType]:
    """benchmarks/half_precision.py, which has the errors in docs/precision.md."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import half_precision as module

        yield module
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        sys.modules.pop("half_precision", None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Get:
    done: dict[tuple[str, str], Whole] = {}

    def get(family: str, task: str) -> Whole:
        if (family, task) not in done:
            checkpoint = GOLDEN / family / task / "checkpoint"
            folder = tmp_path_factory.mktemp("whole")
            loaded = load(ModelSpec(str(checkpoint), "onnx", folder))
            graph = build_graph(loaded, tracing.trace(loaded), folder)  # of other tests, too
            done[family, task] = Whole(graph, Golden(GOLDEN / family / task))
        return done[family, task]

    return get


def is_float_cast(node: ir.Node) -> bool:
    types = set(TYPES.values())
    return node.op_type == "Cast" and node.inputs[0].dtype in types and node.outputs[0].dtype in types


def misfits(program: ir.Model, precision: str, weights: Weights) -> Iterator[str]:
    """What of a converted program is not as the policy says.

    Args:
        weights: of the program before.
    """
    graph, types = program.graph, set(TYPES.values())
    for node in graph:
        rule = rule_of(node)
        if rule is None or (node.op_type == "Gather" and node.inputs[0].const_value is None):
            continue
        floats = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None} & types
        if not floats <= {TYPES[precision if rule.computed_in == HALF else "fp32"]}:
            yield f"{node.name} is of other types"
    if {value.dtype for value in graph.outputs} != {TYPES["fp32"]}:
        yield "an output is not float32"
    # Embeddings that are the decoder's weights, too, are there once, and nothing is there that nobody takes.
    if len(graph.initializers) != len(weights):
        yield "there are more or fewer weights"
    for name, value in graph.initializers.items():
        own = weights[name.removesuffix(f".{precision}")]
        rules = [rule_of(use.node) for use in value.uses()]
        if value.dtype == TYPES[precision]:
            own = own.astype(NUMBERS[precision])
        elif value.dtype == TYPES["fp32"] and {rule.computed_in for rule in rules if rule is not None} != {FLOAT32}:
            yield f"{name} is not taken in float32"
        if not rules or value.const_value.numpy().tobytes() != own.tobytes():
            yield f"{name} is not the weight, rounded once"


def weights_of(program: ir.Model) -> Weights:
    return {name: value.const_value.numpy() for name, value in program.graph.initializers.items()}


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_the_graph_is_typed_as_the_policy_says(family: str, task: str, precision: str, whole: Get) -> None:
    program = ir.load(whole(family, task).graph.model)
    weights = weights_of(program)
    counts = convert(program, precision)
    assert list(misfits(program, precision, weights)) == []
    assert counts["casts"] == sum(map(is_float_cast, program.graph))


# Hash codes are of sampled YOSO alone: test_half_precision.py has them.
@pytest.mark.parametrize("rule", [rule for rule in POLICY if rule.name != "hash codes"], ids=lambda rule: rule.name)
def test_a_line_of_the_policy_that_is_left_out_shows(rule: Rule, whole: Get) -> None:
    other = replace(rule, computed_in=FLOAT32 if rule.computed_in == HALF else HALF)
    found = []
    for family in ("longformer", "nystromformer", "yoso"):
        program = ir.load(whole(family, "fill-mask").graph.model)
        weights = weights_of(program)
        convert(program, "fp16", [other, *POLICY])
        found += misfits(program, "fp16", weights)
    assert any("is of other types" in one for one in found)


@pytest.mark.parametrize("precision", HALVES)
def test_a_cast_that_is_lost_shows(precision: str, whole: Get, tmp_path: Path) -> None:
    """The graph stage has every model checked like this before it is written."""
    casts = [index for index, node in enumerate(_converted(whole, precision).graph) if is_float_cast(node)]
    for index in (*casts[:4], casts[-1]):
        program = _converted(whole, precision)
        node = program.graph[index]
        ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0], replace_graph_outputs=True)
        program.graph.remove(node)
        ir.save(program, tmp_path / "model.onnx")
        with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
            onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def _converted(whole: Get, precision: str) -> ir.Model:
    program = ir.load(whole("longformer", "fill-mask").graph.model)
    convert(program, precision)
    return program


def test_a_weight_that_is_narrowed_twice_shows(whole: Get) -> None:
    program = ir.load(whole("longformer", "fill-mask").graph.model)
    weights = weights_of(program)
    convert(program, "fp16")
    matrix = next(value for value in program.graph.initializers.values() if value.dtype == TYPES["fp16"])
    own = matrix.const_value.numpy()
    matrix.const_value = ir.tensor(own.astype(ml_dtypes.bfloat16).astype(np.float16), name=matrix.name)
    assert list(misfits(program, "fp16", weights)) == [f"{matrix.name} is not the weight, rounded once"]
    matrix.const_value = ir.tensor(own, name=matrix.name)
    copy = ir.Value(name=f"{matrix.name}.fp16", shape=matrix.shape, type=matrix.type, const_value=matrix.const_value)
    program.graph.register_initializer(copy)
    assert next(misfits(program, "fp16", weights)) == "there are more or fewer weights"


def test_every_op_of_the_families_has_a_line_in_the_policy(whole: Get) -> None:
    """An op without one stays in float32: nobody decided so."""
    unnamed = {
        node.op_type
        for family, task in FAMILY_TASKS
        for node in ir.load(whole(family, task).graph.model).graph
        if rule_of(node) is None and node.op_type not in (*MOVES, "Cast")
        if any(value is not None and value.dtype == TYPES["fp32"] for value in (*node.inputs, *node.outputs))
    }
    assert unnamed == set()
    ops = [op for rule in POLICY if not rule.module for op in rule.ops]
    assert len(ops) == len(set(ops))
    assert {op.partition("::")[2] for op in ops if "::" in op} == set(OPS)
    assert all(rule.reason and rule.computed_in in (HALF, FLOAT32) for rule in POLICY)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_errors_are_within_the_band(
    family: str, task: str, precision: str, whole: Get, half_precision: ModuleType, tmp_path: Path
) -> None:
    """In onnxruntime, with the parts in float32 that parity needs; where it needs none, there are none."""
    model = whole(family, task)
    kept = needed(model.graph, model.golden, Judge(precision=precision), tmp_path)
    if precision == "bf16":
        assert bool(kept.parts) == ((family, task) in TOO_SHARP_FOR_BFLOAT16)
    assert len(kept.parts) < kept.of
    assert kept.error <= (MARGIN if kept.parts else 1) * RELATIVE_L2[precision]
    program = ir.load(model.graph.model)
    convert(program, precision, kept=kept.parts)
    save(program, tmp_path / "model.onnx")
    errors = half_precision.errors_of(tmp_path / "model.onnx", model.golden, precision)
    # Further off than float32 ever is: it was computed in half precision.
    assert RELATIVE_L2["fp32"] < max(errors) <= RELATIVE_L2[precision]
