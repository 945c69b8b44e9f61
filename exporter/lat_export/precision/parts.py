"""The parts of a model that half precision is a choice for, by names that hold for every family.

    embeddings                  the word embeddings
    layer.<i>.query_key         the linear layers that give queries and keys
    layer.<i>.attention         the attention op itself
    layer.<i>.value_output      the linear layers of values and of attention's output
    layer.<i>.feed_forward      the two linear layers after attention
    head                        what comes behind the last layer

A model has those of them in which a node is in half precision by the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.graph_steps import LAYER
from lat_export.ops import DOMAIN
from lat_export.precision.policy import HALF, MOVES, POLICY, Rule, moves_a_weight, rule_of

if TYPE_CHECKING:
    import onnx_ir as ir

QUERIES_AND_KEYS = ("attention.self.query", "attention.self.key")


@dataclass(frozen=True)
class Kept:
    """
    Attributes:
        parts: names of what stays in float32, in the order of the graph.
        of: how many parts there are.
        asked: the user named them; parity did not decide.
        error: with those parts in float32 the relative L2 of the output that is furthest out for its tolerance.
        error_without: with none of them in float32.
        alone: where parts were compared, by part: root mean square over outputs of the relative L2 with only it
            rounded.
    """

    parts: tuple[str, ...]
    of: int
    asked: bool = False
    error: float | None = None
    error_without: float | None = None
    alone: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Numbers that JSON has not, of values that overflow, as null."""
        whole = asdict(self)
        finite = {name: _finite(error) for name, error in self.alone.items()}
        return {**whole, "alone": finite, "error": _finite(self.error), "error_without": _finite(self.error_without)}


def part_of(node: ir.Node, policy: Iterable[Rule] = POLICY) -> str | None:
    """The part that a node of the portable graph is of; None of one that is in float32 whatever is chosen."""
    rule = rule_of(node, policy)
    if rule is None or rule.computed_in != HALF:
        return None
    name = str(node.name)
    layer = LAYER.match(name)
    if layer is None:
        return "embeddings" if node.op_type == "Gather" else "head"
    return f"{layer[0]}{_kind(node, name)}"


def _kind(node: ir.Node, name: str) -> str:
    if node.domain == DOMAIN:
        return "attention"
    if any(module in name for module in QUERIES_AND_KEYS):
        return "query_key"
    return "value_output" if ".attention." in name else "feed_forward"


def parts_of(program: ir.Model, policy: Iterable[Rule] = POLICY) -> tuple[str, ...]:
    """In the order of the graph."""
    return tuple(weights_of_parts(program, policy))


def weights_of_parts(program: ir.Model, policy: Iterable[Rule] = POLICY) -> dict[str, int]:
    """How many numbers the matrices of each part have; parts in the order of the graph."""
    found: dict[str, int] = {}
    rules = tuple(policy)
    for node in program.graph:
        if (part := part_of(node, rules)) is not None:
            found[part] = found.get(part, 0) + sum(array.size for array in weights_of(node) if len(array.shape) > 1)
    return found


def weights_of(node: ir.Node) -> Iterator[ir.TensorProtocol]:
    """Those that a node takes, transposed ones too."""
    for value in node.inputs:
        while value is not None and value.const_value is None:
            maker = value.producer()
            value = maker.inputs[0] if maker is not None and moves_a_weight(maker) else None
        if value is not None and value.const_value is not None:
            yield value.const_value


def parts_around(node: ir.Node) -> set[str]:
    """The part of a node, and of one that only casts or moves the parts that take what it gives."""
    if (part := part_of(node)) is not None:
        return {part}
    if node.op_type != "Cast" and node.op_type not in MOVES:
        return set()
    return {part for value in node.outputs for use in value.uses() for part in parts_around(use.node)}


def chosen(known: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The parts that `names` mean: a part, a layer with all of its parts, or a kind of part in every layer.

    Raises:
        InputError: a name that means none.
    """
    known = tuple(known)
    found: set[str] = set()
    for name in names:
        meant = {part for part in known if part == name or part.startswith(f"{name}.") or part.endswith(f".{name}")}
        if not meant:
            raise InputError(
                "the model has no such part in half precision",
                got=name,
                expected=", ".join(known),
                hint="or a layer, as layer.0, or a kind in every layer, as feed_forward",
                where={"option": "--keep-fp32"},
            )
        found |= meant
    return tuple(part for part in known if part in found)


def _finite(error: float | None) -> float | None:
    return error if error is not None and error < inf else None
