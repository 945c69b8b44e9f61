"""lower: portable model + target -> the sizes that the artifact is for, and the model as the target takes it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from lat_export.digest import file_sha256
from lat_export.engine_options import FLAGS
from lat_export.errors import InputError
from lat_export.profiles import NAMES, Profile, demand_distinct, named_profiles
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


def unused_options(spec: ModelSpec, target: Target) -> list[str]:
    """What the user asked for and this export has no use for."""
    only_engines = {
        "--batch": spec.batch,
        "--choices": spec.choices,
        "--profile": spec.profiles or None,
        "--max-global": spec.max_global,
    }
    given = [name for name, value in only_engines.items() if value is not None]
    given += [FLAGS[name] for name in spec.engine.given]
    if target.has_profile or not given:
        return []
    return [f"{', '.join(given)}: only engines have such limits and options; a model for {target.title} takes any size"]


def build_plan(spec: ModelSpec, signature: Signature, target: Target) -> BuildPlan:
    """Sizes for an engine; without bounds where the artifact takes any size.

    Raises:
        InputError: a profile names a dim that the model has not, or two are the same.
    """
    if not target.has_profile:
        return BuildPlan({})
    step = signature.multiple_of
    longest = signature.max_tokens // step * step
    usual = {
        "batch": DEFAULT_BATCH,
        "choices": DEFAULT_CHOICES,
        "sequence": Range(step, min(max(DEFAULT_USUAL_TOKENS // step * step, step), longest), longest),
    }
    first, *more = profiles_for(spec, usual, {dim for tensor in signature.inputs for dim in tensor.dims})
    return BuildPlan(first, signature.max_global, more_profiles=tuple(more), options=spec.engine)


def profiles_for(spec: ModelSpec, usual: Profile, used: Collection[str | int]) -> list[Profile]:
    """What the user named, and the usual range of every other dim.

    Args:
        used: dims of the inputs.
    Raises:
        InputError: as `build_plan`.
    """
    named = named_profiles(spec)
    if spec.profiles and (surplus := sorted({dim for profile in named for dim in profile} - set(used))):
        raise InputError(
            "a profile names a dimension that the model's inputs do not have",
            got=", ".join(NAMES[dim] for dim in surplus),
            expected=", ".join(NAMES.get(str(dim), str(dim)) for dim in usual if dim in used),
            where={"stage": "lower"},
        )
    whole = [{dim: sizes for dim, sizes in {**usual, **profile}.items() if dim in used} for profile in named]
    demand_distinct(whole)
    return whole


def case_profiles(spec: ModelSpec, plan: BuildPlan) -> tuple[Profile, ...]:
    """Sizes that the golden cases keep to: the engine's, else what the user named."""
    return plan.profiles if any(plan.profiles) else named_profiles(spec)


def lower(graph: Graph, target: Target, plan: BuildPlan, scratch: Path) -> Lowered:
    """Rewrite the portable model for `target` where it needs that."""
    model = target.lower(graph.model, scratch, plan)
    return Lowered(model, replace(plan, graph_sha256=file_sha256(model)) if target.has_profile else plan)
