"""Rewrites of ONNX models that change nothing they compute: file in, file out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer, version_converter

from lat_export.targets.onnxruntime_session import session

Rewrite = Callable[[Path, Path], None]
LATER_OPSET = 23


def in_memory(rewrite: Callable[[ir.Model], object]) -> Rewrite:
    """`rewrite` changes the model in place."""

    def run(source: Path, target: Path) -> None:
        model = ir.load(source)
        rewrite(model)
        ir.save(model, target)

    return run


def inlined(model: ir.Model) -> None:
    passes.InlinePass()(model)
    passes.RemoveUnusedFunctionsPass()(model)
    assert not model.functions


def folded(model: ir.Model) -> None:
    inlined(model)
    optimizer.fold_constants(model)


def optimised(model: ir.Model) -> None:
    inlined(model)
    optimizer.optimize_ir(model)


def common_parts_once(model: ir.Model) -> None:
    inlined(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)


def later_opset(model: ir.Model) -> None:
    inlined(model)
    version_converter.convert_version(model, LATER_OPSET)
    assert model.opset_imports[""] == LATER_OPSET


def renamed(model: ir.Model) -> None:
    """Every node and value but the inputs and outputs."""
    kept = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    for count, value in enumerate(list(model.graph.initializers.values())):
        value.name = f"w{count}"
    for count, node in enumerate(model.graph):
        node.name = f"n{count}"
        for place, value in enumerate(node.outputs):
            if value.name not in kept:
                value.name = f"v{count}_{place}"


def initializers_reordered(model: ir.Model) -> None:
    held = list(model.graph.initializers.items())
    random.Random(0).shuffle(held)
    model.graph.initializers.clear()
    model.graph.initializers.update(held)


def initializers_as_constants(model: ir.Model) -> None:
    first = next(iter(model.graph))
    for value in list(model.graph.initializers.values()):
        node = ir.node("Constant", [], {"value": value.const_value})
        model.graph.insert_before(first, node)
        value.replace_all_uses_with(node.outputs[0])
    model.graph.initializers.clear()


def operands_exchanged(model: ir.Model) -> None:
    """a + b as b + a, and a * b as b * a."""
    for node in model.graph:
        if node.op_type in ("Add", "Mul"):
            left, right = node.inputs
            node.replace_input_with(0, right)
            node.replace_input_with(1, left)


def nodes_reordered(model: ir.Model) -> None:
    """Another order in which every node still comes after those that it takes from."""
    nodes = list(model.graph)
    order = [*nodes]
    random.Random(0).shuffle(order)
    model.graph.remove(nodes)
    model.graph.extend(order)
    model.graph.sort()
    assert [node.name for node in model.graph] != [node.name for node in nodes]


def saved_by_onnxruntime(source: Path, target: Path) -> None:
    session(source, target)


def weights_beside(source: Path, target: Path) -> None:
    """External data: the weights in a file of their own; onnxruntime wants the shapes in the model."""
    onnx.save_model(onnx.load(source), target, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    assert (target.parent / "weights.bin").stat().st_size


REWRITES: dict[str, Rewrite] = {
    "functions inlined": in_memory(inlined),
    "constants folded": in_memory(folded),
    "optimised by onnxscript": in_memory(optimised),
    "common subexpressions once, dead code removed": in_memory(common_parts_once),
    "a later opset": in_memory(later_opset),
    "nodes and values renamed": in_memory(renamed),
    "nodes in another order": in_memory(nodes_reordered),
    "initializers in another order": in_memory(initializers_reordered),
    "initializers as Constant nodes": in_memory(initializers_as_constants),
    "operands of Add and Mul exchanged": in_memory(operands_exchanged),
    "weights in a file beside": weights_beside,
    "onnxruntime's optimised copy": saved_by_onnxruntime,
}
