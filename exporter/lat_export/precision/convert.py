"""A float32 program -> the same in float16 or bfloat16, with `Cast`s around what the policy keeps in float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.precision.policy import POLICY, Kept, kept

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

# What a number of the program may be, by the name of the precision.
ELEMENT_TYPES = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}


def convert(program: ir.Model, precision: str, policy: Iterable[Kept] = POLICY) -> dict[str, int]:
    """Rewrite the main graph in place; function bodies hold for any element type and stay as they are.

    Inputs and outputs of the graph keep their types: whoever calls the model need not know its precision.

    Args:
        precision: "fp32" changes nothing; "fp16" or "bf16".
        policy: what stays in float32.
    Returns:
        How many nodes compute in each element type, and how many casts there are between the two.
    Raises:
        InputError: a weight is beyond what the precision can hold.
    """
    return {} if precision == "fp32" else _Conversion(program, precision, tuple(policy)).run()


class _Conversion:
    def __init__(self, program: ir.Model, precision: str, policy: tuple[Kept, ...]) -> None:
        import onnx_ir as ir

        self._graph, self._precision, self._policy = program.graph, precision, policy
        self._low: ir.DataType = ir.DataType[ELEMENT_TYPES[precision]]
        self._float: ir.DataType = ir.DataType.FLOAT
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._weights: dict[ir.Value, ir.Value] = {}
        self._count = {precision: 0, "fp32": 0, "casts": 0}

    def run(self) -> dict[str, int]:
        for node in list(self._graph):
            self._convert(node)
        self._cast_outputs()
        for value in self._weights:
            if not value.uses():
                del self._graph.initializers[str(value.name)]
        return self._count

    def _convert(self, node: ir.Node) -> None:
        """Give a node its float inputs in the type that it computes in, and say so of its outputs."""
        wanted = self._float if kept(node, self._precision, self._policy) else self._low
        floats = [value for value in (*node.inputs, *node.outputs) if value is not None and value.dtype in self._both]
        if not floats:
            return
        self._count["fp32" if wanted == self._float else self._precision] += 1
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in self._both and value.dtype != wanted:
                node.replace_input_with(index, self._as(value, wanted, node))
        self._convert_attributes(node, wanted)
        for value in node.outputs:
            if value.dtype == self._float:
                value.dtype = wanted

    @property
    def _both(self) -> tuple[ir.DataType, ...]:
        return self._float, self._low

    def _convert_attributes(self, node: ir.Node, wanted: ir.DataType) -> None:
        """A float type or float numbers that a node writes down itself."""
        import onnx_ir as ir

        to = node.attributes.get("to") if node.op_type == "Cast" else None
        if to is not None and to.as_int() == self._float:
            node.attributes["to"] = ir.AttrInt64("to", wanted)
        number = node.attributes.get("value") if node.op_type in ("Constant", "ConstantOfShape") else None
        if number is not None and number.as_tensor().dtype == self._float and wanted != self._float:
            tensor = ir.tensor(self._narrowed(number.as_tensor().numpy(), node.name), dtype=wanted)
            node.attributes["value"] = ir.AttrTensor("value", tensor)

    def _as(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        """`value` as `wanted`: weights are converted once, other values by a cast that all who want it share."""
        if value.const_value is not None and wanted == self._low:
            return self._narrow_weight(value)
        if (value, wanted) not in self._casts:
            self._casts[value, wanted] = self._cast(value, wanted, before)
        return self._casts[value, wanted]

    def _cast(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        import onnx_ir as ir

        name = f"{value.name}/as_{wanted.name.lower()}"
        node = ir.node("Cast", [value], {"to": wanted}, name=name)
        node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(wanted)
        node.outputs[0].shape = value.shape
        self._graph.insert_before(before, node)
        self._count["casts"] += 1
        return node.outputs[0]

    def _narrow_weight(self, value: ir.Value) -> ir.Value:
        import onnx_ir as ir

        if value not in self._weights:
            assert value.const_value is not None
            tensor = ir.tensor(self._narrowed(value.const_value.numpy(), value.name), dtype=self._low)
            name = f"{value.name}.{self._precision}"
            tensor.name = name
            narrow = ir.Value(name=name, shape=value.shape, type=ir.TensorType(self._low), const_value=tensor)
            self._graph.register_initializer(narrow)
            self._weights[value] = narrow
        return self._weights[value]

    def _narrowed(self, array: np.ndarray[Any, Any], name: str | None) -> np.ndarray[Any, Any]:
        """In the low type; float32's own least and largest number, which stand for infinity in masks, become its."""
        import ml_dtypes
        import numpy as np

        kind = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}[self._precision]
        wide, narrow = np.finfo(np.float32).max, float(ml_dtypes.finfo(kind).max)
        clamped = np.where(np.abs(array) == wide, np.copysign(narrow, array), array)
        largest = float(np.abs(clamped[np.isfinite(clamped)]).max(initial=0.0))
        if largest > narrow:
            raise InputError(
                f"a weight is too large for {self._precision}",
                got=f"{largest:.3g} in {name}",
                expected=f"at most {narrow:.3g}",
                hint="--precision bf16 has the range of float32",
                where={"stage": "graph"},
            )
        return clamped.astype(kind)

    def _cast_outputs(self) -> None:
        """The graph's outputs stay float32 under their own names."""
        import onnx_ir as ir

        for index, value in enumerate(self._graph.outputs):
            if value.dtype != self._low:
                continue
            name = str(value.name)
            value.name = f"{name}/{self._precision}"
            node = ir.node("Cast", [value], {"to": self._float}, name=f"{name}/as_float")
            node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(self._float)
            node.outputs[0].shape = value.shape
            self._graph.append(node)
            self._graph.outputs[index] = node.outputs[0]
            self._count["casts"] += 1
