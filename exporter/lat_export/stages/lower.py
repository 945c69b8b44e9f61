"""lower: portable model + target -> the sizes that the artifact is for, and the model as the target takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lat_export.digest import file_sha256
from lat_export.stages.graph import Graph
from lat_export.targets import BuildPlan, Target
from lat_export.types import ModelSpec, Range, Signature

# What an engine is built for where the user names no sizes.
DEFAULT_BATCH = Range(1, 1, 8)
DEFAULT_CHOICES = Range(1, 2, 4)
DEFAULT_USUAL_TOKENS = 512


@dataclass(frozen=True)
class Lowered:
    """The model as the target takes it, and the sizes to build for."""

    model: Path
    plan: BuildPlan


def named_sizes(spec: ModelSpec) -> dict[str, Range]:
    """The sizes that the user named."""
    sizes = {"batch": spec.batch, "choices": spec.choices, "sequence": spec.sequence}
    return {dim: given for dim, given in sizes.items() if given is not None}


def unused_options(spec: ModelSpec, target: Target) -> list[str]:
    """What the user asked for and this export has no use for."""
    only_engines = {"--batch": spec.batch, "--choices": spec.choices, "--max-global": spec.max_global}
    given = [name for name, value in only_engines.items() if value is not None]
    if target.has_profile or not given:
        return []
    return [f"{', '.join(given)}: only engines have such limits; a model for {target.title} takes any size"]


def build_plan(spec: ModelSpec, signature: Signature, target: Target) -> BuildPlan:
    """Sizes for an engine; without bounds where the artifact takes any size."""
    if not target.has_profile:
        return BuildPlan({})
    step = signature.multiple_of
    longest = signature.max_tokens // step * step
    wanted = {
        "batch": DEFAULT_BATCH,
        "choices": DEFAULT_CHOICES,
        "sequence": Range(step, min(max(DEFAULT_USUAL_TOKENS // step * step, step), longest), longest),
        **named_sizes(spec),
    }
    used = {dim for tensor in signature.inputs for dim in tensor.dims}
    return BuildPlan({dim: sizes for dim, sizes in wanted.items() if dim in used}, signature.max_global)


def lower(graph: Graph, target: Target, plan: BuildPlan, scratch: Path) -> Lowered:
    """Rewrite the portable model for `target` where it needs that."""
    model = target.lower(graph.model, scratch, plan)
    return Lowered(model, replace(plan, graph_sha256=file_sha256(model)) if target.has_profile else plan)
