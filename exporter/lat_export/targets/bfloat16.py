"""bfloat16 models on the CPU, where onnxruntime has hardly a kernel for them.

Every op that computes gets its bfloat16 inputs as float32 and gives its outputs rounded to bfloat16: what an engine with
float32 sums and bfloat16 storage computes. float16 needs none of it: onnxruntime puts such casts in by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lat_export.ops import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

# They move numbers or hold graphs, whatever the element type.
NO_ARITHMETIC = ("Cast", "Identity", "If", "Scan", "Loop", "Constant")


def has_bfloat16(program: ir.Model) -> bool:
    """Whether weights or values of the main graph are bfloat16."""
    import onnx_ir as ir

    values = [*program.graph.initializers.values(), *(value for node in program.graph for value in node.outputs)]
    return any(value.dtype == ir.DataType.BFLOAT16 for value in values)


def compute_in_float32(program: ir.Model, *, native_ops: bool) -> None:
    """Rewrite a bfloat16 program in place so that the CPU can run it.

    Args:
        native_ops: leave `lat` nodes as they are, for kernels that take bfloat16; else their bodies take their place.
    """
    from onnx_ir.passes import Sequential
    from onnx_ir.passes.common import InlinePass, ShapeInferencePass

    if not native_ops:
        # Bodies hold for any element type: which it is in each place is to be found out.
        Sequential(InlinePass(), ShapeInferencePass())(program)
    for graph in _graphs(program.graph):
        for node in list(graph):
            if node.domain != DOMAIN and node.op_type not in NO_ARITHMETIC:
                _compute_in_float32(graph, node)


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """A graph and those in attributes of its nodes."""
    import onnx_ir as ir

    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _graphs(attribute.as_graph())


def _compute_in_float32(graph: ir.Graph, node: ir.Node) -> None:
    import onnx_ir as ir
    from onnx_ir.convenience import replace_all_uses_with

    half, full = ir.DataType.BFLOAT16, ir.DataType.FLOAT
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype == half:
            wide = ir.node("Cast", [value], {"to": full}, name=f"{node.name}/{value.name}/as_float")
            wide.outputs[0].name, wide.outputs[0].type = wide.name, ir.TensorType(full)
            graph.insert_before(node, wide)
            node.replace_input_with(index, wide.outputs[0])
    for value in node.outputs:
        if value.dtype == half:
            rounded = ir.node("Cast", [value], {"to": half}, name=f"{value.name}/rounded")
            rounded.outputs[0].name, rounded.outputs[0].type = rounded.name, ir.TensorType(half)
            replace_all_uses_with(value, rounded.outputs[0], replace_graph_outputs=True)
            rounded.replace_input_with(0, value)
            value.type = ir.TensorType(full)
            graph.insert_after(node, rounded)
