"""A model in half precision whose parts can be put back to float32 between two runs, on the CPU.

What half precision costs is asked many times over when the parts that cannot have it are looked for. To write and open
a model for each question would take longer than to answer it. Here there is one session: everything computes in
float32, and where an engine rounds, `Where` takes the rounded value or the whole one, by a boolean input of the part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lat_export.onnx_file import save
from lat_export.ops import StaticBounds
from lat_export.precision import ELEMENT_TYPES, convert, part_of, weights_of_parts
from lat_export.targets.half_on_cpu import compute_in_float32, graphs_of
from lat_export.targets.lowering import CALLER, bounded, name_callers
from lat_export.targets.onnxruntime_session import session
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

SWITCH = "in half precision: "


class SwitchedModel:
    """
    Attributes:
        parts: that half precision is a choice for, in the order of the graph.
        weights: how many numbers each has in its matrices.
    """

    def __init__(
        self, model: Path, signature: Signature, precision: str, scratch: Path, always: Collection[str] = ()
    ) -> None:
        """
        Args:
            model: the portable model in float32.
            scratch: an existing folder; what is written there is of no use to others.
            always: parts that are in float32 and have no switch.
        """
        program = bounded(model, StaticBounds())
        self.weights = {part: size for part, size in weights_of_parts(program).items() if part not in always}
        self.parts = tuple(self.weights)
        self._outputs = [spec.name for spec in signature.outputs]
        switched(program, bounded(model, StaticBounds()), precision, always)
        with TemporaryDirectory(dir=scratch) as folder:
            path = Path(folder) / "switched.onnx"
            save(program, path)
            self._session = session(path)

    def run(
        self, inputs: Mapping[str, np.ndarray[Any, Any]], kept: Collection[str] = ()
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Outputs by name, with the parts of `kept` in float32."""
        import numpy as np

        switches = {f"{SWITCH}{part}": np.array(part not in kept) for part in self.parts}
        found = self._session.run(self._outputs, {**inputs, **switches})
        return dict(zip(self._outputs, found, strict=True))


def switched(program: ir.Model, whole: ir.Model, precision: str, always: Collection[str]) -> None:
    """Rewrite a float32 program in place.

    Args:
        whole: the same program once more, for its weights.
        always: parts that are not rounded.
    """
    found = ((str(node.name), part_of(node)) for node in program.graph)
    parts = {name: part for name, part in found if part is not None and part not in always}
    convert(program, precision, kept=always)
    name_callers(program)
    half = _type_of(precision)
    compute_in_float32(program, half)
    _Switches(program, half, parts).put()
    _put_back_weights(program, whole, precision)


def _type_of(precision: str) -> ir.DataType:
    import onnx_ir as ir

    return ir.DataType[ELEMENT_TYPES[precision]]


class _Switches:
    """All values that are in half precision become float32, and the `Cast`s into it roundings that have a switch.

    Every op computes in float32 already: a `Cast` to half precision stands behind each that gives such a value, one
    from half precision before each that takes it. Of a value that one part gives and another takes, both round.
    """

    def __init__(self, program: ir.Model, half: ir.DataType, parts: dict[str, str]) -> None:
        import onnx_ir as ir

        self._graph, self._half, self._parts = program.graph, half, parts
        self._float: ir.DataType = ir.DataType.FLOAT
        self._switches = {part: self._input(part) for part in dict.fromkeys(parts.values())}
        self._rounded: dict[tuple[ir.Graph, ir.Value, str], ir.Value] = {}

    def _input(self, part: str) -> ir.Value:
        import onnx_ir as ir

        name = f"{SWITCH}{part}"
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
        self._graph.inputs.append(value)
        return value

    def put(self) -> None:
        import onnx_ir as ir

        graphs = list(graphs_of(self._graph))
        in_half = [value for graph in graphs for node in graph for value in node.outputs if value.dtype == self._half]
        for graph in graphs:
            for cast in [node for node in graph if self._is_of_half(node)]:
                self._replace(graph, cast)
        for value in in_half:
            value.type = ir.TensorType(self._float)

    def _is_of_half(self, node: ir.Node) -> bool:
        if node.op_type != "Cast" or node.inputs[0] is None:
            return False
        return self._half in (node.inputs[0].dtype, node.outputs[0].dtype)

    def _replace(self, graph: ir.Graph, cast: ir.Node) -> None:
        """By a rounding where it is a part's to round, else by a cast that changes nothing."""
        import onnx_ir as ir

        source, value = cast.inputs[0], cast.outputs[0]
        assert source is not None
        part = self._of(cast) or (self._of(source.producer()) if value.dtype == self._half else self._taker_of(value))
        if part is None:
            cast.attributes["to"] = ir.AttrInt64("to", self._float)
            return
        ir.convenience.replace_all_uses_with(value, self._round(graph, cast, source, part), replace_graph_outputs=True)
        graph.remove(cast)

    def _of(self, node: ir.Node | None) -> str | None:
        return None if node is None else self._parts.get(node.metadata_props.get(CALLER, str(node.name)))

    def _taker_of(self, value: ir.Value) -> str | None:
        """The part that takes a value; none of a table of embeddings, whose rows are rounded as they are given."""
        (use,) = value.uses() if len(value.uses()) == 1 else (None,)
        return None if use is None or use.node.op_type == "Gather" else self._of(use.node)

    def _round(self, graph: ir.Graph, before: ir.Node, source: ir.Value, part: str) -> ir.Value:
        import onnx_ir as ir

        key = (graph, source, part)
        if key not in self._rounded:
            name = f"{source.name}/{part}/{len(self._rounded)}"  # both branches of an `If` may round it
            low = ir.node("Cast", [source], {"to": self._half}, name=f"{name}/low")
            back = ir.node("Cast", [low.outputs[0]], {"to": self._float}, name=f"{name}/back")
            either = ir.node("Where", [self._switches[part], back.outputs[0], source], name=f"{name}/either")
            for node, kind in ((low, self._half), (back, self._float), (either, self._float)):
                node.outputs[0].name, node.outputs[0].type = node.name, ir.TensorType(kind)
                node.outputs[0].shape = source.shape
            graph.insert_before(before, [low, back, either])
            # What this part has rounded is not rounded by it again.
            self._rounded[key] = self._rounded[graph, either.outputs[0], part] = either.outputs[0]
        return self._rounded[key]


def _put_back_weights(program: ir.Model, whole: ir.Model, precision: str) -> None:
    """Weights are rounded as other values are, from float32."""
    import onnx_ir as ir

    for name, value in program.graph.initializers.items():
        if name.endswith(f".{precision}"):
            value.const_value = whole.graph.initializers[name.removesuffix(f".{precision}")].const_value
            value.type = ir.TensorType(ir.DataType.FLOAT)
