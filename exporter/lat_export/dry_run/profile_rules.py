"""The sizes that an engine would be built for, against what the graph can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lat_export.dry_run.findings import ERROR, NOTE, WARNING, Finding
from lat_export.ops import DOMAIN
from lat_export.targets import BuildPlan
from lat_export.targets.tensorrt_target import MOST_GLOBALS
from lat_export.types import Range, Signature

if TYPE_CHECKING:
    import onnx_ir as ir

RULE = "profile"
BOUNDS = ("min", "opt", "max")
SEQUENCE = "sequence"
LANDMARKS = "num_landmarks"


def sizes_at(plan: BuildPlan, bound: str) -> dict[str, int]:
    """The size of every dynamic dim at "min", "opt" or "max"."""
    return {dim: getattr(sizes, bound) for dim, sizes in plan.sizes.items()}


def profile_findings(graph: ir.Graph, plan: BuildPlan, signature: Signature | None) -> Iterator[Finding]:
    """
    Args:
        graph: the portable one, with its `lat` nodes.
        signature: None of a bare ONNX file, whose position table has no name to go by.
    """
    lengths = plan.sizes.get(SEQUENCE)
    if lengths is not None:
        yield from _positions(lengths, signature)
        yield from _landmarks(graph, lengths, signature)
    if plan.max_global is not None:
        yield from _globals(plan.max_global, lengths)


def _positions(lengths: Range, signature: Signature | None) -> Iterator[Finding]:
    if signature is None:
        yield Finding(
            NOTE,
            RULE,
            "the length of the position table is not checked: an ONNX file does not name it",
            mend="give the bundle's folder instead of the file",
        )
    elif lengths.max > signature.max_tokens:
        most = signature.max_tokens
        yield Finding(
            ERROR,
            RULE,
            "the sequence is longer than the checkpoint's position table",
            got=f"--seq {lengths}",
            expected=f"N <= {most}",
            mend=f"--seq {min(lengths.min, most)}:{min(lengths.opt, most)}:{most}",
        )


def _landmarks(graph: ir.Graph, lengths: Range, signature: Signature | None) -> Iterator[Finding]:
    for node in graph:
        step = node.attributes.get(LANDMARKS)
        if node.domain != DOMAIN or step is None or not isinstance(step.value, int) or step.value < 1:
            continue
        wrong = [bound for bound in BOUNDS if getattr(lengths, bound) % step.value]
        if wrong:
            most = signature.max_tokens if signature else None
            yield Finding(
                ERROR,
                RULE,
                "every sequence length must be a multiple of the number of landmarks",
                str(node.name),
                f"--seq {lengths} ({', '.join(wrong)} is none), L={step.value}",
                f"N % {step.value} == 0",
                f"--seq {whole_steps(lengths, step.value, most)}",
            )
            return  # every layer has the same number


def whole_steps(lengths: Range, step: int, most: int | None) -> str:
    """The lengths, each the next multiple of `step`; the last one within `most`."""
    smallest, usual, largest = (-(-size // step) * step for size in (lengths.min, lengths.opt, lengths.max))
    if most is not None and largest > most:
        largest = max(step, most // step * step)
    return f"{min(smallest, largest)}:{min(usual, largest)}:{largest}"


def _globals(max_global: int, lengths: Range | None) -> Iterator[Finding]:
    if max_global > MOST_GLOBALS:
        yield Finding(
            ERROR,
            RULE,
            f"at most {MOST_GLOBALS} global tokens in a row can be found (the limit of TopK)",
            got=f"--max-global {max_global}",
            expected=f"at most {MOST_GLOBALS}",
            mend=f"--max-global {MOST_GLOBALS}, or less",
        )
    elif lengths is not None and max_global > lengths.max:
        yield Finding(
            WARNING,
            RULE,
            "room for more global tokens than the longest row has",
            got=f"--max-global {max_global}",
            expected=f"at most {lengths.max}",
            mend=f"--max-global {lengths.max}",
        )
