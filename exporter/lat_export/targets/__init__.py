"""The targets, a file each. `TARGETS` holds every target by its name on the command line."""

from __future__ import annotations

import sys

from lat_export.errors import InputError, MissingError
from lat_export.registry import discover
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Runner, Subject, Target

TARGETS: dict[str, Target] = discover(sys.modules[__name__], "TARGET", "name")


def target_named(name: str) -> Target:
    """The target of that name, or an `InputError` that lists the known ones."""
    if name not in TARGETS:
        raise InputError(f"unknown target {name!r}", got=name, expected=", ".join(sorted(TARGETS)))
    return TARGETS[name]


def available_target(name: str) -> tuple[Target, str | None]:
    """The target that `--to name` builds on this machine, and a notice where it is not the one asked for.

    Raises:
        MissingError: neither the target nor its fallback can build here.
    """
    asked = target_named(name)
    lack = asked.missing()
    if lack is None:
        return asked, None
    if asked.fallback is not None and TARGETS[asked.fallback].missing() is None:
        fallback = TARGETS[asked.fallback]
        return fallback, f"{asked.title} is not installed: building a {fallback.title} engine instead"
    ways = [asked] + ([TARGETS[asked.fallback]] if asked.fallback else [])
    raise MissingError(
        f"{asked.title} is not installed, so no engine can be built",
        got=f"--to {name}",
        hint="\n  or: ".join(f"{way.title}: {way.missing()}" for way in ways),
    )


__all__ = [
    "PORTABLE_MODEL",
    "TARGETS",
    "BuildPlan",
    "Built",
    "Runner",
    "Subject",
    "Target",
    "available_target",
    "target_named",
]
