"""The sizes to measure at, and the inputs of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, ShapeError
from lat_export.types import Signature
from lat_export.validation.cases import Case, case_inputs

if TYPE_CHECKING:
    import numpy as np

USUAL_TOKENS = (512, 1024, 2048, 4096)
USUAL_CHOICES = 2
# Global tokens in a row where the user names none, by the signature's rule: a first token, a question's usual length,
# a choice's.
USUAL_GLOBALS = {"none": 0, "first": 1, "before the separator": 16, "after the separator": 16}


@dataclass(frozen=True)
class Point:
    """One size of the inputs.

    Attributes:
        batch: B.
        tokens: N, all of them real: no padding.
        choices: C of multiple choice, else None.
        globals: global tokens in every row, its first ones; None where the family has none.
    """

    batch: int
    tokens: int
    choices: int | None = None
    globals: int | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """By the names of the signature's dims."""
        return {"batch": self.batch, "sequence": self.tokens, "choices": self.choices or 1}

    @property
    def all_tokens(self) -> int:
        """In a run: B * N, with choices B * C * N."""
        return self.batch * (self.choices or 1) * self.tokens

    def __str__(self) -> str:
        choices = "" if self.choices is None else f" C={self.choices}"
        marked = "" if self.globals is None else f" globals={self.globals}"
        return f"B={self.batch}{choices} N={self.tokens}{marked}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def sweep(
    signature: Signature, tokens: Sequence[int], batches: Sequence[int], global_tokens: int | None
) -> list[Point]:
    """Every length with every batch, shorter ones first.

    Args:
        tokens: none for `USUAL_TOKENS`, as far as the model takes them.
        global_tokens: None for the task's own.
    Raises:
        InputError: global tokens for a family that has none, or more of them than tokens.
        ShapeError: a length that the model does not take.
    """
    has_globals = signature.has_input("global_attention_mask")
    if global_tokens is not None and not has_globals:
        raise InputError(f"{signature.family} has no global tokens", got=f"--globals {global_tokens}")
    choices = USUAL_CHOICES if "choices" in signature.token_dims else None
    lengths = sorted(set(tokens)) or _usual_lengths(signature)
    points = []
    for length in lengths:
        marked = min(USUAL_GLOBALS[signature.default_globals], length) if global_tokens is None else global_tokens
        if marked > length:
            raise InputError("more global tokens than tokens", got=f"--globals {marked}", expected=f"at most {length}")
        for batch in sorted(set(batches)):
            point = Point(batch, length, choices, marked if has_globals else None)
            _check(signature, point)
            points.append(point)
    return points


def _usual_lengths(signature: Signature) -> list[int]:
    step = signature.multiple_of
    longest = signature.max_tokens // step * step
    return [length for length in USUAL_TOKENS if length <= longest and length % step == 0] or [longest]


def _check(signature: Signature, point: Point) -> None:
    try:
        signature.check_inputs(point_inputs(signature, point))
    except ShapeError as error:
        error.where.setdefault("model", f"{signature.family}, {signature.task}")
        raise ShapeError(
            error.what, got=error.got, expected=error.expected, where=error.where, hint=_hint(signature, point.tokens)
        ) from error


def _hint(signature: Signature, tokens: int) -> str:
    step, longest = signature.multiple_of, signature.max_tokens // signature.multiple_of * signature.multiple_of
    return f"--tokens {min(-(-tokens // step) * step, longest)}"


def point_inputs(signature: Signature, point: Point) -> dict[str, np.ndarray[Any, Any]]:
    """Seeded random ids without padding, by input name, of the dims and dtypes that the signature gives."""
    inputs = case_inputs(signature, Case(point.batch, point.tokens, choices=point.choices))
    if point.globals:
        inputs["global_attention_mask"][..., : point.globals] = 1
    return inputs
