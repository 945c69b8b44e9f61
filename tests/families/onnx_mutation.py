"""Wrong graphs, made from a right one: each must be told from it by validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from lat_export.pipeline import Exported
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden, take_rows

Mutation = Callable[[ir.Model], None]


def error_of_mutant(made: Exported, mutation: Mutation, scratch: Path) -> float:
    """Worst relative L2 error over the golden cases of a bundle whose model was changed."""
    model = ir.load(made.bundle.folder / "model.onnx")
    mutation(model)
    ir.save(model, scratch / "wrong.onnx")
    golden = Golden(made.bundle.folder)
    with open_runner(scratch / "wrong.onnx", golden.signature) as run:
        errors = [
            difference(array, case.outputs[name]).relative_l2
            for case in golden
            for name, array in take_rows(run(case.inputs), case.rows, golden.signature).items()
        ]
    return max(errors)


def lat_nodes(model: ir.Model, op: str) -> list[ir.Node]:
    return [node for node in model.graph if node.domain == "lat" and node.op_type == op]


def window_changed(layer: int, by: int) -> Mutation:
    def change(model: ir.Model) -> None:
        node = lat_nodes(model, "BandedWindowAttention")[layer]
        node.attributes["window"] = ir.AttrInt64("window", node.attributes["window"].as_int() + by)

    return change


def scale_changed(layer: int, factor: float) -> Mutation:
    def change(model: ir.Model) -> None:
        node = lat_nodes(model, "BandedWindowAttention")[layer]
        node.attributes["scale"] = ir.AttrFloat32("scale", node.attributes["scale"].as_float() * factor)

    return change


def mask_changed(op_type: str, operand: int) -> Mutation:
    """Put Min or Max with a constant between the token mask and every `lat` node."""

    def change(model: ir.Model) -> None:
        users = lat_nodes(model, "BandedWindowAttention") + lat_nodes(model, "GlobalTokenAttention")
        mask = lat_nodes(model, "BandedWindowAttention")[0].inputs[3]
        constant = ir.node("Constant", [], {"value": ir.tensor([operand], dtype=ir.DataType.INT32)})
        changed = ir.node(op_type, [mask, constant.outputs[0]])
        model.graph.insert_before(users[0], [constant, changed])
        for node in users:
            for index, value in enumerate(node.inputs):
                if value is mask:
                    node.replace_input_with(index, changed.outputs[0])

    return change


def last_global_dropped() -> Mutation:
    """The last position of the sequence is never global for BandedWindowAttention."""

    def change(model: ir.Model) -> None:
        nodes = lat_nodes(model, "BandedWindowAttention")
        mask = nodes[0].inputs[3]
        ints = {
            name: ir.node("Constant", [], {"value": ir.tensor(value, dtype=ir.DataType.INT64)})
            for name, value in (("zero", [0]), ("last", [-1]), ("end", [2**31 - 1]), ("axis", [1]))
        }
        value = {name: node.outputs[0] for name, node in ints.items()}
        one = ir.node("Constant", [], {"value": ir.tensor([1], dtype=ir.DataType.INT32)})
        head = ir.node("Slice", [mask, value["zero"], value["last"], value["axis"]])
        tail = ir.node("Slice", [mask, value["last"], value["end"], value["axis"]])
        plain = ir.node("Min", [tail.outputs[0], one.outputs[0]])
        joined = ir.node("Concat", [head.outputs[0], plain.outputs[0]], {"axis": 1})
        model.graph.insert_before(nodes[0], [*ints.values(), one, head, tail, plain, joined])
        for node in nodes:
            node.replace_input_with(3, joined.outputs[0])

    return change


def globals_in_one_layer_local(layer: int) -> Mutation:
    """GlobalTokenAttention of one layer gives zero: its global rows are lost."""

    def change(model: ir.Model) -> None:
        node = lat_nodes(model, "GlobalTokenAttention")[layer]
        zeroed = ir.node("Sub", [node.outputs[0], node.outputs[0]])
        output = node.outputs[0]
        output.replace_all_uses_with(zeroed.outputs[0])
        for index in range(2):
            zeroed.replace_input_with(index, output)
        model.graph.insert_after(node, zeroed)

    return change


def weights_swapped(layer: int) -> Mutation:
    """Key and value weights of the global projections change places."""

    def change(model: ir.Model) -> None:
        node = lat_nodes(model, "GlobalTokenAttention")[layer]
        key, value = node.inputs[4], node.inputs[5]
        node.replace_input_with(4, value)
        node.replace_input_with(5, key)

    return change


def attribute_changed(op: str, name: str, value: int) -> Mutation:
    """One layer's node gets another value of an integer attribute."""

    def change(model: ir.Model) -> None:
        lat_nodes(model, op)[1].attributes[name] = ir.AttrInt64(name, value)

    return change


def input_replaced(op: str, index: int, write: Callable[[ir.Value, ir.Graph, ir.Node], ir.Value]) -> Mutation:
    """`write(value, graph, before)` gives what one layer's node takes instead of its input."""

    def change(model: ir.Model) -> None:
        node = lat_nodes(model, op)[1]
        node.replace_input_with(index, write(node.inputs[index], model.graph, node))

    return change


def rolled_rows(axis: int) -> Callable[[ir.Value, ir.Graph, ir.Node], ir.Value]:
    """The value moved by one along an axis: the last element comes first."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        numbers = {
            name: ir.node("Constant", [], {"value": ir.tensor([number], dtype=ir.DataType.INT64)})
            for name, number in (("zero", 0), ("last", -1), ("end", 2**31 - 1), ("axis", axis))
        }
        of = {name: node.outputs[0] for name, node in numbers.items()}
        tail = ir.node("Slice", [value, of["last"], of["end"], of["axis"]])
        head = ir.node("Slice", [value, of["zero"], of["last"], of["axis"]])
        joined = ir.node("Concat", [tail.outputs[0], head.outputs[0]], {"axis": axis})
        graph.insert_before(before, [*numbers.values(), tail, head, joined])
        return joined.outputs[0]

    return write


def applied(op_type: str, operand: float, dtype: ir.DataType) -> Callable[[ir.Value, ir.Graph, ir.Node], ir.Value]:
    """The value through a binary op with a constant."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        constant = ir.node("Constant", [], {"value": ir.tensor([operand], dtype=dtype)})
        changed = ir.node(op_type, [value, constant.outputs[0]])
        graph.insert_before(before, [constant, changed])
        return changed.outputs[0]

    return write
