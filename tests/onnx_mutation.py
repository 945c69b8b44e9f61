"""Changes to ONNX graphs, made from small parts: which node (a `Pick`), what instead of a value there (a `Write`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from lat_export.pipeline import Exported
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden, take_rows

Mutation = Callable[[ir.Model], None]
Pick = Callable[[ir.Model], ir.Node]
# `write(value, graph, before)` adds nodes before one and gives what is taken instead of the value.
Write = Callable[[ir.Value, ir.Graph, ir.Node], ir.Value]

END = 2**31 - 1
# The projections of a layer, in the order of its MatMul nodes.
LINEAR = ("query", "key", "value", "attention output", "up", "down")


def error_of_mutant(made: Exported, mutation: Mutation, scratch: Path) -> float:
    """Worst relative L2 error over the golden cases of a bundle whose model was changed."""
    golden = Golden(made.bundle.folder)
    with open_runner(changed_copy(made, mutation, scratch), golden.signature) as run:
        errors = [
            difference(array, case.outputs[name]).relative_l2
            for case in golden
            for name, array in take_rows(run(case.inputs), case.rows, golden.signature).items()
        ]
    return max(errors)


def changed_copy(made: Exported, mutation: Mutation, scratch: Path) -> Path:
    """The portable model of a bundle, changed, as a file in `scratch`."""
    model = ir.load(made.bundle.folder / "model.onnx")
    mutation(model)
    ir.save(model, scratch / "changed.onnx")
    return scratch / "changed.onnx"


# Which node.


def nth(op_type: str, index: int = 0) -> Pick:
    """The node of that type at `index`, in the order of the graph."""
    return lambda model: [node for node in model.graph if node.op_type == op_type][index]


def linear(layer: int, name: str) -> Pick:
    """The MatMul of one of a layer's projections."""
    return nth("MatMul", layer * len(LINEAR) + LINEAR.index(name))


def bias_of(layer: int, name: str) -> Pick:
    """The Add of a projection's bias, which is its second input."""

    def pick(model: ir.Model) -> ir.Node:
        (use,) = linear(layer, name)(model).outputs[0].uses()
        return use.node

    return pick


def embedding(name: str) -> Pick:
    """The Gather from the "word", "position" or "token_type" embeddings."""

    def pick(model: ir.Model) -> ir.Node:
        gathers = (node for node in model.graph if node.op_type == "Gather")
        return next(node for node in gathers if f"{name}_embeddings" in (node.inputs[0].name or ""))

    return pick


def before(pick: Pick, index: int = 0) -> Pick:
    """The node that makes an input of another."""
    return lambda model: pick(model).inputs[index].producer()


# What is done there.


def together(*mutations: Mutation) -> Mutation:
    def change(model: ir.Model) -> None:
        for mutation in mutations:
            mutation(model)

    return change


def input_changed(pick: Pick, index: int, write: Write) -> Mutation:
    """One node takes something else; other users of the value do not."""

    def change(model: ir.Model) -> None:
        node = pick(model)
        node.replace_input_with(index, write(node.inputs[index], model.graph, node))

    return change


def output_changed(pick: Pick, write: Write, index: int = 0) -> Mutation:
    """All that take a node's output, the caller included, take something else."""

    def change(model: ir.Model) -> None:
        node = pick(model)
        value = node.outputs[index]
        name = value.name
        joint = ir.node("Identity", [value])
        joint.outputs[0].type, joint.outputs[0].shape = value.type, value.shape
        value.replace_all_uses_with(joint.outputs[0], replace_graph_outputs=True)
        value.name, joint.outputs[0].name = f"{name}.right", name
        model.graph.insert_after(node, joint)
        joint.replace_input_with(0, write(value, model.graph, joint))

    return change


def attribute_set(pick: Pick, name: str, value: int | float | str) -> Mutation:
    kinds: dict[type, Callable[..., ir.Attr]] = {int: ir.AttrInt64, float: ir.AttrFloat32, str: ir.AttrString}

    def change(model: ir.Model) -> None:
        pick(model).attributes[name] = kinds[type(value)](name, value)

    return change


def attribute_exchanged(first: Pick, second: Pick, name: str) -> Mutation:
    def change(model: ir.Model) -> None:
        one, other = first(model).attributes, second(model).attributes
        one[name], other[name] = other[name], one[name]

    return change


def body_changed(op: str, op_type: str, instead: str) -> Mutation:
    """The first node of a type in the body of a `lat` op is of another type."""

    def change(model: ir.Model) -> None:
        (body,) = (body for body in model.functions.values() if body.name == op)
        next(node for node in body if node.op_type == op_type).op_type = instead

    return change


def inputs_exchanged(first: tuple[Pick, int], second: tuple[Pick, int]) -> Mutation:
    """What two inputs take changes places."""

    def change(model: ir.Model) -> None:
        (one, i), (other, j) = ((pick(model), index) for pick, index in (first, second))
        left, right = one.inputs[i], other.inputs[j]
        one.replace_input_with(i, right)
        other.replace_input_with(j, left)

    return change


def input_from(pick: Pick, index: int, source: Pick) -> Mutation:
    """One node takes the output of another earlier one."""
    return lambda model: pick(model).replace_input_with(index, source(model).outputs[0])


def output_bypassed(pick: Pick, instead: Pick) -> Mutation:
    """All that take a node's output take the output of an earlier node."""

    def change(model: ir.Model) -> None:
        pick(model).outputs[0].replace_all_uses_with(instead(model).outputs[0])

    return change


def output_names_exchanged(first: str, second: str) -> Mutation:
    def change(model: ir.Model) -> None:
        one, other = ({value.name: value for value in model.graph.outputs}[name] for name in (first, second))
        one.name, other.name = other.name, one.name

    return change


# Changes of one layer's `lat` nodes.


def lat_nodes(model: ir.Model, op: str) -> list[ir.Node]:
    return [node for node in model.graph if node.domain == "lat" and node.op_type == op]


def window_changed(layer: int, by: int) -> Mutation:
    def change(model: ir.Model) -> None:
        node = lat_nodes(model, "BandedWindowAttention")[layer]
        node.attributes["window"] = ir.AttrInt64("window", node.attributes["window"].as_int() + by)

    return change


def scale_changed(layer: int, factor: float, op: str = "BandedWindowAttention") -> Mutation:
    def change(model: ir.Model) -> None:
        node = lat_nodes(model, op)[layer]
        node.attributes["scale"] = ir.AttrFloat32("scale", node.attributes["scale"].as_float() * factor)

    return change


def mask_changed(op_type: str, operand: int) -> Mutation:
    """Put Min or Max with a constant between the token mask and every `lat` node."""

    def change(model: ir.Model) -> None:
        users = lat_nodes(model, "BandedWindowAttention") + lat_nodes(model, "GlobalTokenAttention")
        mask = lat_nodes(model, "BandedWindowAttention")[0].inputs[3]
        changed = applied(op_type, operand, ir.DataType.INT32)(mask, model.graph, users[0])
        for node in users:
            for index, value in enumerate(node.inputs):
                if value is mask:
                    node.replace_input_with(index, changed)

    return change


def last_global_dropped() -> Mutation:
    """The last position of the sequence is never global for BandedWindowAttention."""
    plain = on_part(1, -1, END, applied("Min", 1, ir.DataType.INT32))

    def change(model: ir.Model) -> None:
        for layer in range(len(lat_nodes(model, "BandedWindowAttention"))):
            input_changed(nth("BandedWindowAttention", layer), 3, plain)(model)

    return change


def globals_in_one_layer_local(layer: int) -> Mutation:
    """GlobalTokenAttention of one layer gives zero: its global rows are lost."""
    return output_changed(nth("GlobalTokenAttention", layer), applied("Mul", 0.0, ir.DataType.FLOAT))


def weights_swapped(layer: int) -> Mutation:
    """Key and value weights of the global projections change places."""
    pick = nth("GlobalTokenAttention", layer)
    return inputs_exchanged((pick, 4), (pick, 5))


def attribute_changed(op: str, name: str, value: int) -> Mutation:
    """One layer's node gets another value of an integer attribute."""
    return attribute_set(nth(op, 1), name, value)


def input_replaced(op: str, index: int, write: Write) -> Mutation:
    """One layer's node takes something else instead of its input."""
    return input_changed(nth(op, 1), index, write)


# What is taken instead of a value.


def constant(array: np.ndarray[Any, Any], graph: ir.Graph, before: ir.Node) -> ir.Value:
    node = ir.node("Constant", [], {"value": ir.tensor(array)})
    graph.insert_before(before, node)
    return node.outputs[0]


def added(op_type: str, inputs: list[ir.Value], graph: ir.Graph, before: ir.Node, **attributes: Any) -> ir.Value:
    node = ir.node(op_type, inputs, attributes)
    graph.insert_before(before, node)
    return node.outputs[0]


def sliced(
    value: ir.Value, axis: int, start: int, end: int, graph: ir.Graph, before: ir.Node, step: int = 1
) -> ir.Value:
    bounds = [constant(np.array([number]), graph, before) for number in (start, end, axis, step)]
    return added("Slice", [value, *bounds], graph, before)


def applied(op_type: str, operand: float | list[float], dtype: ir.DataType) -> Write:
    """The value through a binary op with a constant."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        array = np.atleast_1d(np.asarray(operand, dtype.numpy()))
        return added(op_type, [value, constant(array, graph, before)], graph, before)

    return write


def on_part(axis: int, start: int, end: int, write_part: Write) -> Write:
    """Only the elements from `start` to `end` of an axis are changed."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        head, part, tail = (
            sliced(value, axis, *ends, graph, before) for ends in ((0, start), (start, end), (end, END))
        )
        return added("Concat", [head, write_part(part, graph, before), tail], graph, before, axis=axis)

    return write


def rolled_rows(axis: int) -> Write:
    """The value moved by one along an axis: the last element comes first."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        tail, head = (sliced(value, axis, *ends, graph, before) for ends in ((-1, END), (0, -1)))
        return added("Concat", [tail, head], graph, before, axis=axis)

    return write


def reversed_along(axis: int) -> Write:
    return lambda value, graph, before: sliced(value, axis, -1, -END, graph, before, step=-1)


def rows_interleaved(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
    """(B, N) written out as (N, B) and read as (B, N)."""
    shape = added("Shape", [value], graph, before)
    return added("Reshape", [added("Transpose", [value], graph, before, perm=[1, 0]), shape], graph, before)


def rounded_to(dtype: ir.DataType) -> Write:
    """Cast to a smaller type and back."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        small = added("Cast", [value], graph, before, to=dtype.value)
        return added("Cast", [small], graph, before, to=ir.DataType.FLOAT.value)

    return write


def edited(edit: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Write:
    """Another array instead of an initializer's, for this user only."""

    def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
        assert value.const_value is not None, f"{value.name} is no initializer"
        array = value.const_value.numpy()
        new = np.ascontiguousarray(edit(array.copy()).astype(array.dtype))
        assert new.shape != array.shape or (new != array).any(), f"{value.name} is as it was"
        return constant(new, graph, before)

    return write
