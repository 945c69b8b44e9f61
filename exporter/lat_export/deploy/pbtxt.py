"""Protobuf's text format, written by hand: its own writer knows no comments, and a config of a server needs reasons."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

INDENT = "  "
LONGEST_LINE = 110


class Word(str):
    """A name of an enumeration: written without quotes."""


class Comment(str):
    """Stands where a value would; its key is not written."""


Message = list[tuple[str, object]]


def text(message: Message) -> str:
    """
    Args:
        message: fields in their order. A tuple is a list on one line, a list is a message, and a repeated message is a
            key that comes again.
    """
    return "\n".join(_lines(message, "")) + "\n"


def _lines(message: Message, indent: str) -> Iterator[str]:
    for key, value in message:
        if isinstance(value, Comment):
            yield from (f"{indent}# {line}" for line in textwrap.wrap(value, LONGEST_LINE))
        elif isinstance(value, list):
            yield f"{indent}{key} {{"
            yield from _lines(value, indent + INDENT)
            yield f"{indent}}}"
        elif isinstance(value, tuple):
            yield f"{indent}{key}: [{', '.join(map(_scalar, value))}]"
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word | int):
        return str(value)
    # Of what JSON escapes, \\u is not known to every reader; names and paths have no such characters.
    return json.dumps(str(value), ensure_ascii=False)
