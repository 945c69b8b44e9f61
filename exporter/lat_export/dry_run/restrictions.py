"""What a parser demands of a node beyond knowing its op: constants, attributes, limits.

The tables are of the "Restrictions" in the source of `importers("trt")`, as far as an attention model can meet them,
and of what TensorRT-RTX 1.7.1 was seen to refuse (tried on this project's graphs). TensorRT-RTX's parser is of the same
source, so both take the first ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lat_export.dry_run.findings import ERROR, Finding
from lat_export.dry_run.values import Point, named_nodes
from lat_export.targets.tensorrt_target import MOST_GLOBALS

if TYPE_CHECKING:
    import onnx_ir as ir

RULE = "limits of an op"
# Inputs, by place, whose numbers must be the same for every size of the profile, and be known without running.
CONSTANT_INPUTS = {
    "CumSum": {1: "axis"},
    "OneHot": {1: "depth"},
    "Squeeze": {1: "axes"},
    "Unsqueeze": {1: "axes"},
    "Dropout": {2: "training_mode"},
    **{
        f"Reduce{kind}": {1: "axes"}
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
}
# The one value that an attribute may have; where the node does not name it, it has this one.
ONLY_VALUES: dict[str, dict[str, int | str]] = {
    "TopK": {"sorted": 1},
    "ScatterND": {"reduction": "none"},
    "ScatterElements": {"reduction": "none"},
}
# Outputs that must not be used: all from this place on.
OUTPUTS = {"LayerNormalization": 1, "MaxPool": 1}
# By target: known by name to its parser, and refused or fatal all the same.
REFUSED = {
    "trt-rtx": {
        "NonZero": "its output's shape depends on data",
        "Attention": "the standard op is imported only in some surroundings",
    },
    "trt": {},
}


def restriction_findings(program: ir.Model, points: dict[str, Point], target: str) -> Iterator[Finding]:
    """
    Args:
        program: functions inlined.
        points: what its values are at the smallest, usual and largest sizes, by "min", "opt" and "max".
        target: name on the command line.
    """
    for name, node in named_nodes(program):
        if node.domain not in ("", "ai.onnx"):
            continue
        yield from _constants(name, node, points)
        yield from _attributes(name, node)
        yield from _outputs(name, node)
        if node.op_type == "TopK":
            yield from _topk(name, node, points)
        if node.op_type in REFUSED[target]:
            why = REFUSED[target][node.op_type]
            yield Finding(
                ERROR, RULE, f"{node.op_type} is not built by TensorRT-RTX 1.7: {why}", name, mend="use other ops"
            )


def _constants(name: str, node: ir.Node, points: dict[str, Point]) -> Iterator[Finding]:
    for index, role in CONSTANT_INPUTS.get(node.op_type, {}).items():
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            continue
        found = [point.of(value).data for point in points.values()]
        known = [data for data in found if data is not None]
        if len(known) < len(found) or any(not np.array_equal(data, known[0]) for data in known):
            yield Finding(
                ERROR,
                RULE,
                f"{role} of {node.op_type} must be constant",
                name,
                f"{value.name}, which is computed",
                "an initializer or a Constant",
                "write the numbers into the graph",
            )


def _attributes(name: str, node: ir.Node) -> Iterator[Finding]:
    for attribute, only in ONLY_VALUES.get(node.op_type, {}).items():
        given = node.attributes.get(attribute)
        if given is not None and given.value != only:
            yield Finding(
                ERROR,
                RULE,
                f"{node.op_type} is imported only with {attribute}={only}",
                name,
                f"{attribute}={given.value}",
                f"{attribute}={only}",
                "use an op without it, or write the sum as a MatMul with a one-hot matrix"
                if attribute == "reduction"
                else f"set {attribute} to {only}",
            )


def _outputs(name: str, node: ir.Node) -> Iterator[Finding]:
    for output in node.outputs[OUTPUTS.get(node.op_type, len(node.outputs)) :]:
        if output.uses() or output.is_graph_output():
            yield Finding(
                ERROR, RULE, f"only the first output of {node.op_type} is imported", name, f"{output.name} is used",
                mend="compute it by other ops",
            )  # fmt: skip


def _topk(name: str, node: ir.Node, points: dict[str, Point]) -> Iterator[Finding]:
    """K may hang on sizes, and not on data; TensorRT-RTX 1.7 dies with SIGSEGV otherwise."""
    for at, point in points.items():
        data = point.of(node.inputs[1]).data
        if data is None:
            yield Finding(
                ERROR,
                RULE,
                "K of TopK hangs on the data",
                name,
                expected="a constant, or a number made of sizes",
                mend="give the bound on global tokens: --max-global N",
            )
            return
        if int(data.ravel()[0]) > MOST_GLOBALS:
            yield Finding(
                ERROR,
                RULE,
                f"K of TopK is at most {MOST_GLOBALS}",
                name,
                f"{int(data.ravel()[0])} at the {at} sizes of the profile",
                f"at most {MOST_GLOBALS}",
                f"--max-global {MOST_GLOBALS}, or less",
            )
            return
