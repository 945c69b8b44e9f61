"""What many commands take: names, ranges, folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lat_export.errors import InputError
from lat_export.profiles import parse_profile
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


class ParsedType(click.ParamType):  # type: ignore[type-arg]
    """Whatever a function of the text gives; its errors are ours."""

    def __init__(self, name: str, parse: Callable[[str], Any], kind: type) -> None:
        self.name, self._parse, self._kind = name, parse, kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # click hands over a value once more where it was converted before; a str is parsed to the same str again.
        return value if isinstance(value, self._kind) and self._kind is not str else self._parse(value)


def profile_type() -> ParsedType:
    """NAME=MIN:OPT:MAX, separated by commas."""
    return ParsedType("batch=MIN:OPT:MAX,seq=...", parse_profile, dict)


def parts_type() -> ParsedType:
    """`auto`, `none`, or names of parts, separated by commas."""
    return ParsedType("auto|none|PART,...", _parse_parts, tuple)


def _parse_parts(text: str) -> tuple[str, ...] | None:
    names = tuple(part for part in (part.strip() for part in text.split(",")) if part)
    if text.strip() == "auto":
        return None
    if not names or (len(names) > 1 and {"auto", "none"} & set(names)):
        raise InputError(
            "--keep-fp32 is auto, none, or names", got=repr(text), expected="auto, none, or names as layer.0,head"
        )
    return () if names == ("none",) else names


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
