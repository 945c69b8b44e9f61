"""Writes an ONNX function body as Python calls: `op.MatMul(a, b)` adds a node and gives its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import convert_attributes

if TYPE_CHECKING:
    from lat_export.ops.contract import Op

Operand = ir.Value | int | float | list[int] | None


ATTRIBUTE_TYPES = {int: ir.AttributeType.INT, float: ir.AttributeType.FLOAT}


@dataclass(frozen=True)
class OwnAttribute:
    """As an attribute of a node in the body: the op's own attribute of that name."""

    name: str


class BodyBuilder:
    """The body of one op.

    Any ONNX operator is a method: inputs by position, attributes by keyword. A Python number or list among the inputs
    becomes a constant: int -> int64 scalar, list of int -> int64 [n], float -> float32 scalar.

    Attributes:
        inputs: the op's inputs, in the order of its contract.
    """

    def __init__(self, op: Op, parent: BodyBuilder | None = None) -> None:
        self._op = op
        self._nodes: list[ir.Node] = []
        self._root: BodyBuilder = parent._root if parent else self
        self._constants: dict[str, ir.Value] = {}
        self._value_count = 0
        self.inputs: tuple[ir.Value, ...] = (
            parent.inputs if parent else tuple(ir.Value(name=port.name) for port in op.inputs)
        )

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def add(*operands: Operand, outputs: int = 1, **attributes: Any) -> Any:
            inputs = [self._operand(operand) for operand in operands]
            own = {key: value for key, value in attributes.items() if isinstance(value, OwnAttribute)}
            plain = {key: value for key, value in attributes.items() if key not in own}
            given = [*convert_attributes(plain), *(self._reference(key, value.name) for key, value in own.items())]
            values = self._add_node(op_type, inputs, given, outputs)
            return values[0] if outputs == 1 else values

        return add

    def attribute(self, name: str) -> ir.Value:
        """The node's own attribute as a scalar: int64 or float32."""
        field = "value_int" if self._kind(name) is int else "value_float"
        return self._constant_node(self._reference(field, name), key=f"@{name}")

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """Size of one axis, int64 [1], ready for `dims`."""
        return self.Shape(value, start=axis, end=axis + 1)

    def reshape(self, value: ir.Value, *sizes: ir.Value | int) -> ir.Value:
        """`value` with the given sizes, each int64 [1] or a Python int; at most one is -1, and none means "copy"."""
        return self.Reshape(value, self.dims(*sizes), allowzero=1)

    def dims(self, *sizes: ir.Value | int) -> ir.Value:
        """Sizes joined into one shape, int64 [n]; each is [1] or a Python int."""
        return self.Concat(*(([size] if isinstance(size, int) else size) for size in sizes), axis=0)

    def branch(self, write: Callable[[BodyBuilder], ir.Value]) -> ir.Graph:
        """A branch for `If`; it may use every value of this body."""
        inner = BodyBuilder(self._op, parent=self)
        output = write(inner)
        return ir.Graph(inputs=[], outputs=[output], nodes=inner._nodes, name=self._root._fresh_name("branch"))

    def scan(self, write: Callable[..., ir.Value], initial: ir.Value, *sequences: ir.Value) -> ir.Value:
        """Fold over the first axis of `sequences`: `write(body, state, *elements)` gives the next state.

        Returns:
            The last state, of the shape of `initial`; `write` may use every value of this body.
        """
        inner = BodyBuilder(self._op, parent=self)
        variables = [ir.Value(name=self._root._fresh_name("state"), type=ir.TensorType(ir.DataType.FLOAT))]
        variables += [
            ir.Value(name=self._root._fresh_name("element"), type=ir.TensorType(ir.DataType.INT64)) for _ in sequences
        ]
        state = write(inner, *variables)
        graph = ir.Graph(inputs=variables, outputs=[state], nodes=inner._nodes, name=self._root._fresh_name("fold"))
        return self.Scan(initial, *sequences, body=graph, num_scan_inputs=len(sequences))

    def finish(self, output: ir.Value) -> ir.Function:
        """The whole function, with one output called `output`."""
        from lat_export.ops.contract import DOMAIN, OPSET_VERSION, PLUGIN_ATTRIBUTES

        result = self.Identity(output)
        result.name = "output"
        graph = ir.Graph(
            inputs=list(self.inputs),
            outputs=[result],
            nodes=self._nodes,
            opset_imports={"": OPSET_VERSION},
        )
        # Engines fill in a default where a node does not have the attribute.
        attributes = [ir.Attr(a.name, ATTRIBUTE_TYPES[a.kind], a.default) for a in self._op.attributes]
        attributes += [ir.AttrString(name, value) for name, value in PLUGIN_ATTRIBUTES.items()]
        return ir.Function(DOMAIN, self._op.name, graph=graph, attributes=attributes)

    def _kind(self, name: str) -> type:
        return next(a.kind for a in self._op.attributes if a.name == name)

    def _reference(self, key: str, name: str) -> ir.Attr:
        return ir.RefAttr(key, name, ATTRIBUTE_TYPES[self._kind(name)])

    def _operand(self, operand: Operand) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        array = np.array(operand, dtype=np.float32 if isinstance(operand, float) else np.int64)
        return self._constant_node(ir.AttrTensor("value", ir.Tensor(array)), key=repr((operand, array.dtype)))

    def _constant_node(self, attribute: ir.Attr, key: str) -> ir.Value:
        if key not in self._constants:
            self._constants[key] = self._add_node("Constant", [], [attribute], 1)[0]
        return self._constants[key]

    def _add_node(
        self, op_type: str, inputs: list[ir.Value | None], attributes: Sequence[ir.Attr], outputs: int
    ) -> tuple[ir.Value, ...]:
        values = tuple(ir.Value(name=self._root._fresh_name(op_type)) for _ in range(outputs))
        self._nodes.append(ir.Node("", op_type, inputs, attributes, outputs=values))
        return values

    def _fresh_name(self, op_type: str) -> str:
        self._value_count += 1
        return f"{op_type.lower()}_{self._value_count}"
