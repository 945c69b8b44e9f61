"""The graph at one point of the profile: element type and shape of every value, and the data of what shapes hang on.

Shapes are ONNX's own inference node by node, with sizes put in; numbers that are made of shapes are computed, so that a
Reshape to a computed shape is known. Nothing of the size of an activation is ever computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lat_export.dry_run.nodes import subgraphs
from lat_export.ops import DOMAIN, OPS
from lat_export.targets.lowering import CALLER

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Shapes, axes and small tables; more is an activation or a weight.
COMPUTED_NUMBERS = 4096


@dataclass(frozen=True)
class Value:
    """
    Attributes:
        dtype: ONNX's name of the element type, "" where it is unknown.
        shape: None in it for a size that depends on data; None where not even the rank is known.
        data: the numbers themselves, where they are known without running the model.
    """

    dtype: str = ""
    shape: tuple[int | None, ...] | None = None
    data: np.ndarray[Any, Any] | None = None

    @property
    def whole(self) -> tuple[int, ...] | None:
        """The shape, where every size is known."""
        if self.shape is None or None in self.shape:
            return None
        return tuple(size for size in self.shape if size is not None)

    @property
    def numbers(self) -> int | None:
        return None if self.whole is None else int(np.prod(self.whole, dtype=np.int64))


UNKNOWN_VALUE = Value()


@dataclass
class Point:
    """
    Attributes:
        sizes: of every dynamic dim.
        values: by name.
        refused: what ONNX's inference says against a node, by the name of the node.
    """

    sizes: dict[str, int]
    values: dict[str, Value] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def of(self, value: ir.Value | None) -> Value:
        return self.values.get(str(value.name), UNKNOWN_VALUE) if value is not None else UNKNOWN_VALUE


def place(node: ir.Node) -> str:
    """Where a node is, for people: its own name, or that of the node whose body it is of, and its op."""
    caller = node.metadata_props.get(CALLER)
    return f"{caller}/{node.op_type}" if caller else node.name or f"a {node.op_type} without a name"


def evaluated(program: ir.Model, sizes: Mapping[str, int]) -> Point:
    """Every value of the main graph of `program`, whose functions are inlined, with these sizes of its dynamic dims."""
    point = Point(dict(sizes))
    for value in program.graph.inputs:
        dims = tuple(value.shape or ())
        shape = tuple(size if isinstance(size, int) else point.sizes.get(str(size)) for size in dims)
        point.values[str(value.name)] = Value(_dtype(value.dtype), shape)
    for name, value in program.graph.initializers.items():
        point.values[name] = _constant(value.const_value)
    walker = _Walker(program, point)
    for node in program.graph:
        outputs = walker.outputs(node)
        for output, found in zip(node.outputs, outputs, strict=True):
            if output.name:
                point.values[output.name] = found
    return point


class _Walker:
    def __init__(self, program: ir.Model, point: Point) -> None:
        import onnx

        self._point = point
        self._opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in program.opset_imports.items()]
        self._versions = dict(program.opset_imports)
        self._ir_version = program.ir_version

    def outputs(self, node: ir.Node) -> list[Value]:
        inputs = [self._point.of(value) for value in node.inputs]
        unknown = [UNKNOWN_VALUE] * len(node.outputs)
        if node.op_type == "Constant" and "value" in node.attributes:
            return [_constant(node.attributes["value"].as_tensor())]
        if node.domain == DOMAIN:
            return [_of_contract(node, inputs)] if node.op_type in OPS else unknown
        if any(value is not None and not found.dtype for value, found in zip(node.inputs, inputs, strict=True)):
            return unknown
        try:
            found = self._inferred(node)
        except Exception as error:  # inference, schema look-up and protobuf have errors of their own
            self._point.refused[place(node)] = str(error).strip().splitlines()[-1][:300]
            return unknown
        return self._computed(node, inputs, found)

    def _inferred(self, node: ir.Node) -> list[Value]:
        import onnx
        import onnx_ir as ir

        try:
            schema = onnx.defs.get_schema(node.op_type, self._versions.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:  # no standard op: that is told by the rules of nodes
            return [UNKNOWN_VALUE] * len(node.outputs)
        used = {str(value.name) for value in node.inputs if value is not None}
        for graph in subgraphs(node):
            used |= _captured(graph) & set(self._point.values)
        types = {name: _type_proto(self._point.values.get(name, UNKNOWN_VALUE)) for name in used}
        data = {
            name: onnx.numpy_helper.from_array(value.data, name)
            for name in used
            if (value := self._point.values.get(name)) is not None and value.data is not None
        }
        proto = ir.to_proto(node)
        found = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=self._opsets, ir_version=self._ir_version
        )
        return [_of_type(found[str(output.name)]) if output.name in found else UNKNOWN_VALUE for output in node.outputs]

    def _computed(self, node: ir.Node, inputs: list[Value], outputs: list[Value]) -> list[Value]:
        """With data, where they are known and few."""
        if any((value.numbers or 0) > COMPUTED_NUMBERS or value.numbers is None for value in outputs):
            return outputs
        if node.op_type == "Shape" and inputs[0].whole is not None:
            start, end = (node.attributes[key].as_int() if key in node.attributes else None for key in ("start", "end"))
            return [Value("INT64", outputs[0].shape, np.array(inputs[0].whole[start:end], dtype=np.int64))]
        if node.op_type == "Size" and inputs[0].numbers is not None:
            return [Value("INT64", (), np.array(inputs[0].numbers, dtype=np.int64))]
        given = [found for value, found in zip(node.inputs, inputs, strict=True) if value is not None]
        if any(found.data is None for found in given) or any(subgraphs(node)) or node.op_type.startswith("Random"):
            return outputs
        try:
            data = self._run(node, inputs)
        except Exception:  # the reference evaluator lacks this op or this type: the numbers stay unknown
            return outputs
        return [Value(v.dtype, tuple(d.shape), d) for v, d in zip(outputs, data, strict=False)]

    def _run(self, node: ir.Node, inputs: list[Value]) -> list[np.ndarray[Any, Any]]:
        import onnx
        import onnx_ir as ir
        from onnx.reference import ReferenceEvaluator

        named = {str(v.name): f for v, f in zip(node.inputs, inputs, strict=True) if v is not None}
        graph = onnx.helper.make_graph(
            [ir.to_proto(node)],
            "one node",
            [onnx.helper.make_value_info(name, _type_proto(value)) for name, value in named.items()],
            [onnx.helper.make_value_info(str(output.name), onnx.TypeProto()) for output in node.outputs],
        )
        model = onnx.helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
        with np.errstate(all="ignore"):  # a division by zero is for the rules to tell
            computed = ReferenceEvaluator(model).run(None, {name: value.data for name, value in named.items()})
        return [np.asarray(array) for array in computed]


def _captured(graph: ir.Graph) -> set[str]:
    return {str(value.name) for node in graph.all_nodes() for value in node.inputs if value is not None}


def _of_contract(node: ir.Node, inputs: list[Value]) -> Value:
    """A `lat` node: shaped like its first input, or by the letters of its contract."""
    op = OPS[node.op_type]
    if not op.output_dims:
        return Value(inputs[0].dtype, inputs[0].shape)
    sizes: dict[str, int | None] = {a.dim: node.attributes[a.name].as_int() for a in op.attributes if a.dim}
    for port, value in zip(op.inputs, inputs, strict=False):
        sizes.update(zip(port.dims, value.shape or (), strict=False))
    return Value(inputs[0].dtype, tuple(sizes.get(letter) for letter in op.output_dims))


def _dtype(dtype: ir.DataType | None) -> str:
    return "" if dtype is None else dtype.name


def _constant(tensor: ir.TensorProtocol | None) -> Value:
    if tensor is None:
        return UNKNOWN_VALUE
    shape = tuple(tensor.shape.numpy())
    few = int(np.prod(shape, dtype=np.int64)) <= COMPUTED_NUMBERS and tensor.dtype.name != "STRING"
    return Value(_dtype(tensor.dtype), shape, tensor.numpy() if few else None)


def _type_proto(value: Value) -> onnx.TypeProto:
    import onnx

    if not value.dtype:
        return onnx.TypeProto()
    code = onnx.TensorProto.DataType.Value(value.dtype)
    return onnx.helper.make_tensor_type_proto(code, value.shape)


def _of_type(proto: onnx.TypeProto) -> Value:
    import onnx

    tensor = proto.tensor_type
    if not tensor.elem_type:
        return UNKNOWN_VALUE
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Value(dtype)
    return Value(dtype, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim))


def named_nodes(program: ir.Model) -> Iterator[tuple[str, ir.Node]]:
    """Every node of the main graph with its `place`."""
    for node in program.graph:
        yield place(node), node
