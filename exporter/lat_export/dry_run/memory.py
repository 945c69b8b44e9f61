"""Device memory of an engine at the largest profile, as far as the graph tells it.

The nodes are walked in their order; a value takes room from the node that makes it to the last one that reads it, and
the most that is there at once is the estimate. Values that only rename another (Reshape and its like) take none, and so
do numbers that are known at build time. An engine stores less where it fuses nodes, and more for the workspace of its
kernels, which no graph tells.

How good it is, on the golden models: the size of every value is exactly what onnxruntime gives for it (a test holds
that). TensorRT-RTX 1.7.1 plans about 8 MB, whatever the model, and 0.9 to 2.2 times the estimate. Where it bounds badly
what is computed from a dynamic size it plans up to a thousand times as much: Longformer's blocks are min(W, N) tokens
long, so with N >= 1 it makes room for N blocks of W tokens. onnxruntime on the CPU, without its arena, peaks at 1.7 to
2.2 times the estimate. What TensorRT itself plans was never seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lat_export.dry_run.nodes import subgraphs
from lat_export.dry_run.values import Point, Value, named_nodes

if TYPE_CHECKING:
    import onnx_ir as ir

# Bytes that the builder may plan beyond the estimate, and how often the estimate itself, before a user is warned.
PLANNED_ALWAYS_BYTES = 64 * 2**20
PLANNED_IN_EXCESS = 8
RENAMING = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}


@dataclass(frozen=True)
class MemoryEstimate:
    """
    Attributes:
        weights_bytes: all initializers and constants, in their own types.
        activations_bytes: the most that is live at once between inputs and outputs.
        bindings_bytes: inputs and outputs, which the caller of the engine holds.
        largest_at: the node at which most is live.
        unknown_values: values left out because their size depends on data.
    """

    weights_bytes: int
    activations_bytes: int
    bindings_bytes: int
    largest_at: str
    unknown_values: int

    def explains(self, planned_bytes: int) -> bool:
        """Whether so much activation memory is near enough to the estimate."""
        return planned_bytes <= PLANNED_ALWAYS_BYTES + PLANNED_IN_EXCESS * self.activations_bytes

    def to_json(self) -> dict[str, int | str]:
        return asdict(self)


def estimate(program: ir.Model, point: Point) -> MemoryEstimate:
    """
    Args:
        program: functions inlined but for what a plugin runs.
        point: its values at the largest sizes.
    """
    graph = program.graph
    owners = _owners(graph, point)
    bound = {str(value.name) for value in (*graph.inputs, *graph.outputs)}
    sizes = {name: value_bytes(point.values[name]) for name in point.values}
    last_use = _last_uses(graph, owners)
    live: dict[str, int] = {}
    most, largest_at, unknown = 0, "", 0
    for index, (name, node) in enumerate(named_nodes(program)):
        for output in node.outputs:
            value = str(output.name)
            if owners.get(value) != value or value in bound:
                continue
            size = sizes.get(value)
            unknown += size is None
            live[value] = size or 0
        if (now := sum(live.values())) > most:
            most, largest_at = now, name
        for value in [value for value in live if last_use.get(value, -1) <= index]:
            del live[value]
    return MemoryEstimate(
        weights_bytes=_weights(graph),
        activations_bytes=most,
        bindings_bytes=sum(sizes.get(name) or 0 for name in bound),
        largest_at=largest_at,
        unknown_values=unknown,
    )


def value_bytes(value: Value) -> int | None:
    """Room of one value; None where its size is not known. Types of less than a byte are rounded up, all together."""
    import onnx_ir as ir

    if not value.dtype or value.numbers is None:
        return None
    return int(-(-value.numbers * ir.DataType[value.dtype].bitwidth // 8))


def _owners(graph: ir.Graph, point: Point) -> dict[str, str]:
    """By value the one whose memory it is in; none for what is known at build time, inputs and weights."""
    owners: dict[str, str] = {}
    for node in graph:
        for output in node.outputs:
            name = str(output.name)
            if point.of(output).data is not None or not name:
                continue
            first = str(node.inputs[0].name) if node.inputs and node.inputs[0] is not None else ""
            if node.op_type not in RENAMING:
                owners[name] = name
            elif first in owners:
                owners[name] = owners[first]
    return owners


def _last_uses(graph: ir.Graph, owners: dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, node in enumerate(graph):
        read = [value for value in node.inputs if value is not None]
        for inner in subgraphs(node):
            read += [value for one in inner.all_nodes() for value in one.inputs if value is not None]
        for value in (*read, *node.outputs):
            if (owner := owners.get(str(value.name))) is not None:
                found[owner] = index
    for value in graph.outputs:
        if (owner := owners.get(str(value.name))) is not None:
            found[owner] = len(graph)
    return found


def _weights(graph: ir.Graph) -> int:
    initializers = sum(value.const_value.nbytes for value in graph.initializers.values() if value.const_value)
    constants = sum(
        node.attributes["value"].as_tensor().nbytes
        for node in graph
        if node.op_type == "Constant" and "value" in node.attributes
    )
    return int(initializers + constants)
