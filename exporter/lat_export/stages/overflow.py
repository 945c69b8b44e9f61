"""overflow: a float16 model + golden tensors -> its largest values, or the error that names the node that overflows."""

from __future__ import annotations

from math import isfinite

from lat_export.errors import ParityError
from lat_export.precision import parts_around
from lat_export.stages.graph import Graph
from lat_export.targets import BuildPlan
from lat_export.targets.largest_values import FLOAT16_OVERFLOW, LargestValue, largest_values
from lat_export.validation.check import within
from lat_export.validation.golden import Golden

# Of the largest float16. Other inputs than the golden ones give other values: this near to it, it is told.
NEAR = 0.25
KEPT = 5
KEEP_MORE = "--keep-fp32 auto finds the parts that have to stay in fp32"


def stored_values(graph: Graph, golden: Golden) -> list[LargestValue]:
    """The largest of every value that is stored in float16, on all golden cases that an engine takes, largest first.

    onnxruntime's CPU provider, by which a float16 model is validated, computes in float32 and would not show it.

    Returns:
        None of a model in another precision, bfloat16 having the range of float32.
    """
    if graph.precision != "fp16":
        return []
    signature = golden.signature
    limits = BuildPlan({}, signature.max_global)
    cases = ((case.case.name, case.inputs) for case in golden if within(case, signature, limits))
    return largest_values(graph.model, cases, signature.max_global)


def _overflows(one: LargestValue) -> bool:
    return not one.value < FLOAT16_OVERFLOW


def overflowing_parts(graph: Graph, found: list[LargestValue]) -> set[str]:
    """The parts in half precision that hold values which are too large.

    Args:
        found: from `stored_values`.
    """
    import onnx_ir as ir

    over = {one.node.partition(", ")[0] for one in found if _overflows(one)}
    if not over:
        return set()
    nodes = [node for node in ir.load(graph.model).graph if str(node.name) in over]
    return {part for node in nodes for part in parts_around(node)}


def check_overflow(found: list[LargestValue], way_out: str = "") -> tuple[LargestValue, ...]:
    """
    Args:
        found: from `stored_values`.
        way_out: for the error, what may be done besides another precision.
    Returns:
        The first of them.
    Raises:
        ParityError: a value is too large for float16.
    """
    over = [one for one in found if _overflows(one)]
    if over:
        first = over[0]
        raise ParityError(
            f"{len(over)} activations are too large for fp16",
            got=f"{first.value:.4g} from {first.node}" if isfinite(first.value) else f"NaN or Inf from {first.node}",
            expected="at most 65504, the largest float16",
            hint="; ".join(filter(None, (way_out, "--precision bf16 has the range of float32"))),
            where={"stage": "overflow", "case": first.case},
        )
    return tuple(found[:KEPT])


def near_overflow(largest: tuple[LargestValue, ...]) -> str | None:
    """A warning, where other inputs may well overflow."""
    if not largest or largest[0].value < NEAR * FLOAT16_OVERFLOW:
        return None
    return (
        f"values come near to the largest float16, 65504: {largest[0].value:.4g} from {largest[0].node}; other inputs "
        "may overflow (--precision bf16 has the range of float32)"
    )
