"""One row of a file of documents: what it asks, or why it asks nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from lat_export.errors import InputError, LatExportError
from lat_export.text_inputs import Request, Terms, check_request

TERMS = Terms('a field "question"', 'a field "choices"', text='the field "text"')
MORE_FIELDS = {"question-answering": ("question",), "multiple-choice": ("choices",)}
KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Fields:
    """What is read of every row.

    Attributes:
        kept: fields that go to the answer as they are.
    """

    task: str
    top_k: int = 5
    kept: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[str, ...]:
        return ("text", *MORE_FIELDS.get(self.task, ()))


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        number: of the line, or of the row of a table, from 1.
    """

    number: int
    request: Request
    kept: dict[str, Any]


@dataclass(frozen=True)
class BadRow:
    number: int
    reason: str


def read_row(number: int, found: Any, fields: Fields) -> Row | BadRow:
    """
    Args:
        found: what the line or row holds, as JSON has it.
    """
    try:
        if not isinstance(found, dict):
            raise InputError("no JSON object", got=_kind(found), expected='{"text": "..."}')
        text = _string(found, "text")
        question = _string(found, "question") if "question" in fields.read else None
        request = Request(text, question, _choices(found) if "choices" in fields.read else (), fields.top_k)
        check_request(request, fields.task, TERMS)
    except LatExportError as error:
        return BadRow(number, reason_of(error))
    return Row(number, request, {name: found.get(name) for name in fields.kept})


def json_cell(cell: Any) -> str:
    """For `json.dumps`: a cell of a table of a kind that JSON does not have, as its text.

    Raises:
        InputError: bytes, which are no text.
    """
    if isinstance(cell, (date, time)):  # a datetime is a date
        return cell.isoformat()
    if isinstance(cell, (Decimal, timedelta)):
        return str(cell)
    raise InputError("a field that is kept is of a kind that JSON does not have", got=type(cell).__name__)


def reason_of(error: LatExportError) -> str:
    """An error in one line."""
    facts = (("got", error.got), ("expected", error.expected))
    return "; ".join([error.what, *(f"{name}: {value}" for name, value in facts if value is not None)])


def _string(found: dict[str, Any], name: str) -> str:
    if name not in found:
        raise InputError(f'no field "{name}"', got=json.dumps(sorted(found))[:200])
    return _text(found[name], f'"{name}"')


def _choices(found: dict[str, Any]) -> tuple[str, ...]:
    if not isinstance(found.get("choices"), list):
        raise InputError('no list "choices"', got=_kind(found.get("choices")), expected="a list of strings")
    return tuple(_text(choice, 'one of "choices"') for choice in found["choices"])


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is no string", got=_kind(value))
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else KINDS.get(type(value), type(value).__name__)
