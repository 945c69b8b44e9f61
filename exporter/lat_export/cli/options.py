"""What many commands take: names, ranges, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lat_export.types import PRECISIONS, Range

# The names are written out so that --help loads nothing; a test compares them with the tables.
TARGET_NAMES = ("onnx", "ort", "trt", "trt-rtx")
__all__ = ["FOLDER", "PRECISIONS", "SEARCHED", "TARGET_NAMES", "NamesType", "RangeType"]
SEARCHED = ("model", "graph", "engine", "ort")

FOLDER = click.Path(path_type=Path)


class RangeType(click.ParamType):  # type: ignore[type-arg]  # click before 8.5 takes no argument here
    """MIN:OPT:MAX."""

    name = "MIN:OPT:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Range:
        return value if isinstance(value, Range) else Range.parse(value)


class NamesType(click.ParamType):  # type: ignore[type-arg]
    """Names out of a list, separated by commas."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known
        self.name = ",".join(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(","))
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is not one of {', '.join(self.known)}.", param, ctx)
        return names
