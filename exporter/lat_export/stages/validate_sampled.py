"""validate, for sampled attention: every node on its own inputs, exact where no hash code is in doubt."""

from __future__ import annotations

from pathlib import Path

from lat_export.targets.onnx_values import LatCall, OnnxValues
from lat_export.validation.bisect import Arrays, Side
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden, GoldenCase
from lat_export.validation.report import FAILED, PASSED, SampledNode
from lat_export.validation.sampled import Hashed, check_node, flip_rate

OP = "LshCumulation"
# The tables are built in Python, and what holds for a row of a table holds at any length.
MOST_TOKENS = 256


def check_sampled_nodes(
    model: Path, golden: Golden, judge: Judge, names: dict[str, str] | None = None
) -> tuple[SampledNode, ...]:
    """
    Args:
        model: an ONNX file; what it computes of its `LshCumulation` nodes is taken from inside of it.
        names: what it calls the golden's inputs, where it is otherwise.
    Returns:
        A finding a node; none where the model has no such node.
    """
    values = OnnxValues(model)
    calls = values.calls(OP)
    if not calls:
        return ()
    case = _case(golden)
    inputs = {(names or {}).get(name, name): array for name, array in case.inputs.items()}
    taken = {name for call in calls for name in (*call.names.values(), call.output)}
    found = {**inputs, **values(inputs, sorted(taken & values.values))}
    return tuple(_finding(call, found, case, judge) for call in calls)


def flip_rates(one: OnnxValues, other: Side, inputs: Arrays) -> dict[str, float]:
    """By node of `one`: the share of its hash codes that another side sees otherwise, where both have its inputs."""
    found = {}
    for call in one.calls(OP):
        names = sorted(set(call.names.values()) & one.values & other.values)
        if not {call.names["query"], call.names["key"]} <= set(names):
            continue
        ours = {**inputs, **one(inputs, sorted(set(call.names.values()) & one.values))}
        theirs = {**ours, **other(inputs, names)}
        found[call.name] = flip_rate(_hashed(call, ours), _hashed(call, theirs))
    return found


def _case(golden: Golden) -> GoldenCase:
    """The longest that is cheap, with padding where there is one."""

    def rank(case: GoldenCase) -> tuple[bool, bool, int]:
        mask = case.inputs["attention_mask"]
        return mask.size <= MOST_TOKENS, not mask.all(), mask.size if mask.size <= MOST_TOKENS else -mask.size

    return max(golden, key=rank)


def _finding(call: LatCall, found: Arrays, case: GoldenCase, judge: Judge) -> SampledNode:
    node = check_node(_hashed(call, found), found[call.output])
    tolerance = judge.tolerances.find(judge.target, judge.precision, (OP,), OP).relative_l2
    return SampledNode(
        node=call.name,
        case=case.case.name,
        **vars(node),
        tolerance=tolerance,
        verdict=PASSED if node.relative_l2 <= tolerance else FAILED,
    )


def _hashed(call: LatCall, found: Arrays) -> Hashed:
    arrays = {**call.weights, **{port: found[name] for port, name in call.names.items()}}
    query, key, value, mask, projection = (
        arrays[name] for name in ("query", "key", "value", "attention_mask", "projection")
    )
    sizes = call.attributes["num_heads"], call.attributes["num_hash"]
    return Hashed.of_node(query, key, value, mask, projection, sizes)
