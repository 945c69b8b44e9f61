"""How large the values get that an engine stores in half precision: the model in float32, with maxima as outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.ops import StaticBounds
from lat_export.targets.half_on_cpu import typed
from lat_export.targets.lowering import CALLER, bounded, name_callers
from lat_export.targets.onnxruntime_session import session_of_part

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

# Above it a number rounds to infinity: halfway from the largest float16, 65504, to what would be the next.
FLOAT16_OVERFLOW = 65520.0
LARGEST = "/largest"


@dataclass(frozen=True)
class LargestValue:
    """
    Attributes:
        node: that gives the value; an op of a `lat` node's body has that node's name before its own.
        value: largest absolute value of a number of it.
        case: in which case.
    """

    node: str
    value: float
    case: str


def largest_values(
    model: Path, cases: Iterable[tuple[str, dict[str, np.ndarray[Any, Any]]]], max_global: int | None
) -> list[LargestValue]:
    """The largest absolute value of every value that `model` has in float16, as float32 would have it.

    Args:
        model: the portable model in float16; bodies are looked into, in the form that engines without plugins get.
        cases: name and inputs; none with more global tokens in a row than `max_global`.
    Returns:
        Largest first; NaN before all.
    """
    import onnx_ir as ir

    program = bounded(model, StaticBounds(max_global=max_global))
    name_callers(program)
    typed(program)
    watched = _widen(program, ir.DataType.FLOAT16)
    opened = session_of_part(program, model.parent)
    found: dict[str, LargestValue] = {}
    for case, inputs in cases:
        values = opened.run([f"{name}{LARGEST}" for name in watched], inputs)
        for (name, node), array in zip(watched.items(), values, strict=True):
            value = float(array)
            if name not in found or not value <= found[name].value:
                found[name] = LargestValue(node, value, case)
    return sorted(found.values(), key=lambda largest: (largest.value == largest.value, -largest.value))


def _widen(program: ir.Model, half: ir.DataType) -> dict[str, str]:
    """All in float32, and the maximum of what was in `half` as outputs `<value>/largest`.

    Returns:
        By name of each such value the node that gives it.
    """
    import onnx_ir as ir

    graph, full = program.graph, ir.TensorType(ir.DataType.FLOAT)
    stored = [value for node in graph for value in node.outputs if value.dtype == half]
    for weight in list(graph.initializers.values()):
        if weight.dtype == half:
            wide = ir.node("Cast", [weight], {"to": ir.DataType.FLOAT}, name=f"{weight.name}/wide")
            wide.outputs[0].name, wide.outputs[0].type, wide.outputs[0].shape = wide.name, full, weight.shape
            ir.convenience.replace_all_uses_with(weight, wide.outputs[0])
            wide.replace_input_with(0, weight)
            graph.insert_before(graph[0], wide)
    for node in list(graph):
        to = node.attributes.get("to") if node.op_type == "Cast" else None
        if to is not None and to.as_int() == half:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    graph.outputs.clear()
    watched = {}
    for value in stored:
        maker = value.producer()
        assert maker is not None
        value.type = full
        size = ir.node("Abs", [value], name=f"{value.name}/size")
        most = ir.node("ReduceMax", [size.outputs[0]], {"keepdims": 0}, name=f"{value.name}{LARGEST}")
        size.outputs[0].name, most.outputs[0].name = size.name, most.name
        most.outputs[0].type, most.outputs[0].shape = full, ir.Shape([])
        graph.extend([size, most])
        graph.outputs.append(most.outputs[0])
        watched[str(value.name)] = _place(maker)
    return watched


def _place(node: ir.Node) -> str:
    caller = node.metadata_props.get(CALLER)
    return f"{caller}, {node.op_type} in its body" if caller else str(node.name)
