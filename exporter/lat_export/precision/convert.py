"""A float32 program -> the same in float16 or bfloat16 where the policy says so, with `Cast`s between the two."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.precision.parts import part_of, parts_around, weights_of
from lat_export.precision.policy import POLICY, Rule, moves_a_weight, moves_an_activation

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

# What a number of the program may be, by the name of the precision.
ELEMENT_TYPES = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}
LARGEST = {"fp16": 65504.0, "bf16": 3.3895314e38}


def convert(
    program: ir.Model, precision: str, policy: Iterable[Rule] = POLICY, kept: Collection[str] = ()
) -> dict[str, int]:
    """Rewrite the main graph in place; function bodies hold for any element type and stay as they are.

    Inputs and outputs of the graph keep their types: whoever calls the model need not know its precision.

    Args:
        precision: "fp32" changes nothing; "fp16" or "bf16".
        policy: what is computed in half precision; an op that no line names stays in float32.
        kept: names of parts that stay in float32 all the same.
    Returns:
        How many nodes compute in each element type, and how many casts there are between the two.
    Raises:
        InputError: a weight is beyond what the precision can hold.
    """
    return {} if precision == "fp32" else _Conversion(program, precision, tuple(policy), frozenset(kept)).run()


class _Conversion:
    def __init__(self, program: ir.Model, precision: str, policy: tuple[Rule, ...], kept: frozenset[str]) -> None:
        import onnx_ir as ir

        self._graph, self._precision, self._policy, self._kept = program.graph, precision, policy, kept
        self._low: ir.DataType = ir.DataType[ELEMENT_TYPES[precision]]
        self._float: ir.DataType = ir.DataType.FLOAT
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._weights: dict[ir.Value, ir.Value] = {}
        self._count = {precision: 0, "fp32": 0, "casts": 0}

    def run(self) -> dict[str, int]:
        for node in list(self._graph):
            self._convert(node)
        self._count["casts"] += widen_outputs(self._graph, self._low)
        for value in self._weights:
            if not value.uses():
                del self._graph.initializers[str(value.name)]
        return self._count

    def _convert(self, node: ir.Node) -> None:
        """Give a node its float inputs in the type that it computes in, and say so of its outputs."""
        both = (self._float, self._low)
        if not any(value.dtype in both for value in (*node.inputs, *node.outputs) if value is not None):
            return
        wanted = self._wanted(node)
        self._count["fp32" if wanted == self._float else self._precision] += 1
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in both and value.dtype != wanted:
                node.replace_input_with(index, self._as(value, wanted, node))
        for value in node.outputs:
            if value.dtype == self._float:
                value.dtype = wanted

    def _wanted(self, node: ir.Node) -> ir.DataType:
        if moves_an_activation(node):
            assert node.inputs[0] is not None
            return self._low if node.inputs[0].dtype == self._low else self._float
        if moves_a_weight(node):
            takers = [use.node for value in node.outputs for use in value.uses()]
            return self._low if takers and all(map(self._is_half, takers)) else self._float
        return self._low if self._is_half(node) else self._float

    def _is_half(self, node: ir.Node) -> bool:
        part = part_of(node, self._policy)
        return part is not None and part not in self._kept

    def _as(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        """`value` as `wanted`: weights are converted once, other values by a cast that all who want it share."""
        if value.const_value is not None and wanted == self._low:
            return self._narrow_weight(value, before)
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

    def _narrow_weight(self, value: ir.Value, taker: ir.Node) -> ir.Value:
        """The one copy in half precision of a weight, whoever takes it."""
        import onnx_ir as ir

        if value not in self._weights:
            assert value.const_value is not None
            tensor = ir.tensor(self._narrowed(value.const_value.numpy(), value.name, taker), dtype=self._low)
            name = f"{value.name}.{self._precision}"
            tensor.name = name
            narrow = ir.Value(name=name, shape=value.shape, type=ir.TensorType(self._low), const_value=tensor)
            self._graph.register_initializer(narrow)
            self._weights[value] = narrow
        return self._weights[value]

    def _narrowed(self, array: np.ndarray[Any, Any], name: str | None, taker: ir.Node) -> np.ndarray[Any, Any]:
        import ml_dtypes
        import numpy as np

        kind = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}[self._precision]
        with np.errstate(over="ignore"):
            narrow = array.astype(kind)
        beyond = np.isfinite(array) & ~np.isfinite(narrow.astype(np.float32))
        if beyond.any():
            raise InputError(
                f"a weight is too large for {self._precision}",
                got=f"{float(np.abs(array[beyond]).max()):.3g} in {name}",
                expected=f"at most {LARGEST[self._precision]:.3g}",
                hint=self._other_way(taker),
                where={"stage": "narrow"},
            )
        return narrow

    def _other_way(self, taker: ir.Node) -> str:
        ways = [f"--keep-fp32 {','.join(sorted(parts))}"] if (parts := parts_around(taker)) else []
        ways += ["--precision bf16 has the range of float32"] if self._precision == "fp16" else ["--precision fp32"]
        return "; or ".join(ways)


def parts_beyond(program: ir.Model, precision: str) -> tuple[str, ...]:
    """Parts with a weight that is beyond what the precision can hold, in the order of the graph."""
    import numpy as np

    found = {}
    for node in program.graph:
        if (part := part_of(node)) is None or part in found:
            continue
        arrays = (array.numpy() for array in weights_of(node))
        if any(np.abs(array[np.isfinite(array)]).max(initial=0) > LARGEST[precision] for array in arrays):
            found[part] = True
    return tuple(found)


def widen_outputs(graph: ir.Graph, half: ir.DataType) -> int:
    """Give outputs that are in `half` as float32, under their own names; how many there were."""
    import onnx_ir as ir

    count = 0
    for index, value in enumerate(graph.outputs):
        if value.dtype != half:
            continue
        name = str(value.name)
        value.name = f"{name}/half"
        node = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{name}/as_float")
        node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].shape = value.shape
        graph.append(node)
        graph.outputs[index] = node.outputs[0]
        count += 1
    return count
