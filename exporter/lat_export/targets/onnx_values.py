"""Values inside an ONNX graph, computed in onnxruntime: one side of a search for a divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.graph_steps import Step, Steps
from lat_export.ops import DOMAIN, OPS
from lat_export.targets.onnxruntime_session import session_of_part

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir


@dataclass(frozen=True)
class LatCall:
    """One `lat` node.

    Attributes:
        names: of the values that it takes, by the names of the op's inputs.
        weights: the other inputs.
    """

    name: str
    names: dict[str, str]
    weights: dict[str, Any]
    output: str
    attributes: dict[str, Any]


class OnnxValues:
    """One side: an ONNX model, cut back for every run to what the wanted values need.

    Args:
        native_ops: library whose ops run in place of function bodies.
        made_from: the model that onnxruntime optimised to this one.

    Attributes:
        name: for reports.
        steps: its graph.
        values: all values that its nodes make.
    """

    def __init__(
        self, model: Path, name: str | None = None, native_ops: Path | None = None, made_from: Path | None = None
    ) -> None:
        where = "CPU, native ops" if native_ops else "CPU"
        self.name = name or f"{model.name} in onnxruntime ({where})"
        self._model, self._native_ops = model, native_ops
        self.steps = steps_of(_load(model))
        if made_from is not None:
            self.steps = _named_as_in(self.steps, steps_of(_load(made_from)))
        self.values = frozenset(value for step in self.steps.steps for value in step.outputs)

    def __call__(
        self, inputs: dict[str, np.ndarray[Any, Any]], wanted: Sequence[str]
    ) -> dict[str, np.ndarray[Any, Any]]:
        if not wanted:
            return {}
        opened = session_of_part(self.cut_back(wanted), self._model.parent, self._native_ops)
        given = {value.name: inputs[value.name].astype(_dtype(value.type)) for value in opened.get_inputs()}
        return dict(zip(wanted, opened.run(list(wanted), given), strict=True))

    def calls(self, op: str) -> list[LatCall]:
        """The nodes of one `lat` op."""
        ports = [port.name for port in OPS[op].inputs]
        found = []
        for node in _load(self._model).graph:
            if (node.domain, node.op_type) != (DOMAIN, op):
                continue
            given = {port: value for port, value in zip(ports, node.inputs, strict=True) if value is not None}
            names = {port: str(value.name) for port, value in given.items() if value.const_value is None}
            weights = {port: value.const_value.numpy() for port, value in given.items() if value.const_value}
            attributes = {name: attribute.value for name, attribute in node.attributes.items()}
            found.append(LatCall(str(node.name), names, weights, str(node.outputs[0].name), attributes))
        return found

    def cut_back(self, wanted: Sequence[str]) -> onnx_ir.Model:
        """The part of the model that the wanted values need, as a model that gives them; weights stay on disk."""
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        program = _load(self._model)
        made = {value.name: value for node in program.graph for value in node.outputs}
        program.graph.outputs[:] = [made[name] for name in wanted]
        RemoveUnusedNodesPass()(program)
        return program


def _dtype(onnxruntime_type: str) -> str:
    """`tensor(int64)` -> `int64`; `float` is onnxruntime's word for float32."""
    name = onnxruntime_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _load(model: Path) -> onnx_ir.Model:
    import onnx_ir as ir

    return ir.load(model)


def steps_of(program: onnx_ir.Model) -> Steps:
    """The graph as a search sees it; what its nodes take from outside of bodies counts as their input."""
    import onnx_ir as ir

    made = {value for node in program.graph for value in node.outputs}
    whole_numbers = {
        str(value.name) for value in made if value.dtype in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
    }
    return Steps(
        tuple(_step(node, made) for node in program.graph),
        tuple(str(value.name) for value in program.graph.outputs),
        frozenset(whole_numbers),
    )


def _named_as_in(steps: Steps, original: Steps) -> Steps:
    """A fused node gives what the last of the nodes gave that it stands for, and keeps that value's name: it is known
    by that node here, so that a search can tell that both sides have the value."""
    makers = {value: step for step in original.steps for value in step.outputs}

    def named(step: Step) -> Step:
        maker = next((makers[value] for value in step.outputs if value in makers), step)
        return replace(step, name=maker.name, op=maker.op)

    return replace(steps, steps=tuple(map(named, steps.steps)))


def _step(node: onnx_ir.Node, made: set[onnx_ir.Value]) -> Step:
    taken = [value for value in _taken(node) if value in made]
    return Step(
        str(node.name),
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
        tuple(str(value.name) for value in taken),
        tuple(str(value.name) for value in node.outputs),
    )


def _taken(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """Inputs of a node, and what the graphs in its attributes take from around them."""
    import onnx_ir as ir

    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        for graph in graphs:
            for inner in graph:
                found += _taken(inner)
            found += [value for value in graph.outputs if value is not None]
    return found
