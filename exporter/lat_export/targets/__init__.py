"""The targets, a file each. `TARGETS` holds every target by its name on the command line."""

from __future__ import annotations

import sys
from typing import Any

from lat_export.errors import InputError, MissingError
from lat_export.registry import discover
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Runner, Subject, Target

TARGETS: dict[str, Target] = discover(sys.modules[__name__], "TARGET", "name")
# By the target's name: what `--kit` takes in its place.
KITS: dict[str, Target] = discover(sys.modules[__name__], "KIT", "name")


def target_named(name: str) -> Target:
    """The target of that name, or an `InputError` that lists the known ones."""
    if name not in TARGETS:
        raise InputError(f"unknown target {name!r}", got=name, expected=", ".join(sorted(TARGETS)))
    return TARGETS[name]


def target_of(manifest: dict[str, Any]) -> Target:
    """The target of a bundle, by its manifest."""
    target = target_named(manifest["target"])
    return KITS[target.name] if manifest.get("kit") else target


def kit_of(name: str) -> Target:
    """What writes a build kit for `--to name`.

    Raises:
        InputError: no kit is written for that target.
        MissingError: what goes into a kit is not here.
    """
    target = target_named(name)
    if name not in KITS:
        raise InputError(
            f"there is no build kit for {target.title}",
            got=f"--to {name} --kit",
            expected=" or ".join(f"--to {known} --kit" for known in sorted(KITS)),
            hint=f"leave --kit out: {target.title} needs no other machine to build on",
        )
    lack = KITS[name].missing()
    if lack is not None:
        raise MissingError("no build kit can be written", got=lack, hint="export from a checkout of lat-export")
    return KITS[name]


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
        hint="\n  or: ".join(f"{way.title}: {way.missing()}" for way in ways) + _instead(name),
    )


def _instead(name: str) -> str:
    return (
        f"\n  or: --to {name} --kit writes a folder that builds the engine on another machine" if name in KITS else ""
    )


__all__ = [
    "KITS",
    "PORTABLE_MODEL",
    "TARGETS",
    "BuildPlan",
    "Built",
    "Runner",
    "Subject",
    "Target",
    "available_target",
    "kit_of",
    "target_named",
    "target_of",
]
