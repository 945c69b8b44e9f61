"""Options of an engine's builder, for the commands that build one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from lat_export.cli.options import FOLDER, ParsedType
from lat_export.engine_options import HARDWARE_LEVELS, VERBOSITIES, EngineOptions, parse_capability, parse_size

OPTIONS = (
    click.option(
        "--workspace",
        "workspace_bytes",
        type=ParsedType("SIZE", parse_size, int),
        help="Most scratch memory of a layer of an engine, as 512M or 2G.",
    ),
    click.option("--opt-level", type=click.IntRange(0, 5), help="Builder's effort: 0 builds fastest, 5 runs fastest."),
    click.option("--timing-cache", type=FOLDER, help="File of kernel timings, read if it is there, and written."),
    click.option("--version-compatible", is_flag=True, help="The engine runs in later versions of TensorRT too."),
    click.option("--hardware-compatible", type=click.Choice(HARDWARE_LEVELS), help="It runs on other GPUs too."),
    click.option("--strip-weights", is_flag=True, help="No weights in the engine: lat-export refit puts them in."),
    click.option("--refittable", is_flag=True, help="Its weights can be changed, with --strip-weights to any others."),
    click.option("--profiling-verbosity", type=click.Choice(VERBOSITIES), help="What its inspector can tell."),
    click.option("--embed-plugins", is_flag=True, help="Write the plugin library into the engine."),
    click.option(
        "--compute-capability",
        "compute_capabilities",
        type=ParsedType("CC", parse_capability, str),
        multiple=True,
        help="For TensorRT-RTX: a GPU that the engine is for, as 8.6; may be given again.  [default: all it knows]",
    ),
    click.option(
        "--runtime-cache", type=FOLDER, help="For TensorRT-RTX: file of what the engine's first run compiles."
    ),
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def taken_from(arguments: dict[str, Any]) -> EngineOptions:
    """They are taken out of a command's arguments."""
    return EngineOptions(**{one.name: arguments.pop(one.name) for one in fields(EngineOptions)})
