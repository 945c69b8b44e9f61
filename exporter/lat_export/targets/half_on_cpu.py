"""Half precision on the CPU, with every value rounded that an engine stores in half precision.

onnxruntime's CPU provider has hardly a kernel for bfloat16, and refuses a model with it. Here every op that computes
gets its half-precision inputs as float32 and gives its outputs rounded: what an engine with float32 sums and half
precision in memory computes. For float16 onnxruntime puts such casts in by itself, but takes out those between two ops
that it runs in float32: what it computes is nearer to float32 than an engine is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from lat_export.ops import DOMAIN
from lat_export.targets.lowering import inline

if TYPE_CHECKING:
    import onnx_ir as ir

# They move numbers or hold graphs, whatever the element type.
NO_ARITHMETIC = ("Cast", "Identity", "If", "Scan", "Loop", "Constant")


def has_bfloat16(program: ir.Model) -> bool:
    """Whether weights or values of the main graph are bfloat16."""
    import onnx_ir as ir

    values = [*program.graph.initializers.values(), *(value for node in program.graph for value in node.outputs)]
    return any(value.dtype == ir.DataType.BFLOAT16 for value in values)


def compute_in_float32(program: ir.Model, half: ir.DataType, kept: Collection[str] = ()) -> None:
    """Rewrite a program in place so that its ops compute in float32 and round to `half` what they give.

    Args:
        kept: `lat` ops whose nodes stay, for kernels that take half precision; else bodies take their place.
    """
    typed(program, kept)
    for graph in graphs_of(program.graph):
        for node in list(graph):
            if node.domain != DOMAIN and node.op_type not in NO_ARITHMETIC:
                _compute_in_float32(graph, node, half)


def typed(program: ir.Model, kept: Collection[str] = ()) -> None:
    """Bodies in place of nodes, and the type of every value: bodies hold for any, which it is where is to be found."""
    from onnx_ir.passes.common import ShapeInferencePass

    inline(program, kept)
    ShapeInferencePass()(program)


def graphs_of(graph: ir.Graph) -> Iterator[ir.Graph]:
    """A graph and those in attributes of its nodes."""
    import onnx_ir as ir

    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from graphs_of(attribute.as_graph())


def _compute_in_float32(graph: ir.Graph, node: ir.Node, half: ir.DataType) -> None:
    import onnx_ir as ir
    from onnx_ir.convenience import replace_all_uses_with

    full = ir.DataType.FLOAT
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype == half:
            wide = ir.node("Cast", [value], {"to": full}, name=f"{node.name}/{index}/{value.name}/as_float")
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
