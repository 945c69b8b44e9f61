"""The core: rows of a chunk -> batches of similar lengths -> answers, a line each; here and on a cluster.

Every answer is that of `lat-export run --text` on the row alone. So rows are joined only where a batch does not couple
them, and are padded to a longer one of their batch only where padding changes nothing; else they share a batch with
rows of their own length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lat_export.batching import batching_of, padding_changes_answers
from lat_export.documents.rows import BadRow, Row, json_cell, reason_of
from lat_export.errors import InputError, LatExportError, ShapeError
from lat_export.inference import front_of, open_model
from lat_export.stages.bundle import Bundle
from lat_export.targets.contract import Runner
from lat_export.text_front import Asked, TextFront
from lat_export.text_inputs import Request, padded_tokens

MOST_ROWS = 64
MOST_TOKENS = 4096
# Rows of one batch differ in length by at most this factor: what is padded is computed, too.
SIMILAR = 1.25
# A text of more characters for each token that a model takes is looked at by its beginning first: the tokens of 10 MB
# take 1.5 GB and seconds, to be refused then. What follows changes tokens only where the beginning ends, so one that
# has twice the tokens that a model takes is of a text that is too long.
LOOKED_AT = 64


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        rows: of a batch at most.
        tokens: of a batch at most, padding and all choices included; a longer row is a batch of its own.
        similar: the longest row of a batch has at most so many times the tokens of the shortest.
        why: what bounds the rows, in a sentence.
    """

    rows: int
    tokens: int
    similar: float
    why: str


@dataclass(frozen=True)
class Tokenised:
    row: Row
    asked: Asked
    choices: int
    tokens: int


@dataclass(frozen=True)
class Line:
    """What is written for one row, with its newline.

    Attributes:
        bad: it tells why the row has no answer.
    """

    number: int
    data: bytes
    bad: bool


@dataclass(frozen=True)
class Answering:
    """A bundle that is open to answer rows."""

    front: TextFront
    limits: Limits
    run: Runner

    def answers(self, rows: Iterable[Row | BadRow], skipped: int = 0) -> Iterator[list[Line]]:
        """The lines of every batch of a chunk, in an order that depends on nothing but the chunk and the limits.

        Args:
            skipped: batches that were answered before.
        Returns:
            First the rows that cannot be asked, where there are any, then batch by batch.
        """
        tokenised, bad = self.tokenised(rows)
        if bad and not skipped:
            yield [_bad_line(row.number, row.reason) for row in bad]
        skipped -= bool(bad) and skipped > 0
        for batch in batches(tokenised, self.limits):
            if skipped:
                skipped -= 1
            else:
                yield self.answer(batch)

    def answer(self, batch: Sequence[Tokenised]) -> list[Line]:
        """The lines of one batch, which the model runs at once."""
        outputs = self.run(self.front.inputs([one.asked for one in batch]))
        return [self._line(one, outputs, place) for place, one in enumerate(batch)]

    def _line(self, one: Tokenised, outputs: dict[str, Any], place: int) -> Line:
        number = one.row.number
        try:
            found = self.front.read(one.asked, outputs, place)
            text = json.dumps({"row": number, **one.row.kept, **found}, allow_nan=False, default=json_cell)
        except LatExportError as error:
            return _bad_line(number, reason_of(error))
        except ValueError:
            return _bad_line(number, "the answer, or a field that is kept, is not a finite number")
        return Line(number, text.encode() + b"\n", bad=False)

    def tokenised(self, rows: Iterable[Row | BadRow]) -> tuple[list[Tokenised], list[BadRow]]:
        tokenised: list[Tokenised] = []
        bad: list[BadRow] = []
        for row in rows:
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            try:
                self._check_beginning(row.request)
                asked = self.front.ask(row.request)
                # On its own, so that no row is refused for another of its batch.
                self.front.signature.check_inputs(self.front.inputs([asked]))
            except LatExportError as error:
                bad.append(BadRow(row.number, reason_of(error)))
            else:
                tokens = padded_tokens(self.front.signature, asked.encodings)
                tokenised.append(Tokenised(row, asked, len(asked.encodings), tokens))
        return tokenised, bad

    def _check_beginning(self, request: Request) -> None:
        most = self.front.signature.max_tokens
        for text in (request.text, request.question or "", *request.choices):
            if len(text) > LOOKED_AT * most:
                tokens = len(self.front.tokenizer.encode(text[: LOOKED_AT * most]).ids)
                if tokens > 2 * most:
                    raise ShapeError(
                        "the text is far longer than the checkpoint's position table",
                        got=f"{tokens} tokens in the first {LOOKED_AT * most} of {len(text)} characters",
                        expected=f"N <= {most}",
                    )


def batches(rows: Iterable[Tokenised], limits: Limits) -> Iterator[list[Tokenised]]:
    """Rows by length, the longest first, cut where a limit is met."""
    batch: list[Tokenised] = []
    for row in sorted(rows, key=lambda row: (row.choices, -row.tokens, row.row.number)):
        if batch:
            longest = batch[0]
            full = len(batch) >= limits.rows or (len(batch) + 1) * longest.choices * longest.tokens > limits.tokens
            if full or row.choices != longest.choices or longest.tokens > limits.similar * row.tokens:
                yield batch
                batch = []
        batch.append(row)
    if batch:
        yield batch


def limits_of(bundle: Bundle, most_rows: int | None = None, most_tokens: int | None = None) -> Limits:
    """
    Raises:
        InputError: more rows are asked for than may share a batch.
    """
    # In onnxruntime, whose models have no profiles.
    batching = batching_of(bundle, by_engine=False, asked=None)
    if not batching.most and most_rows not in (None, 1):
        raise InputError(
            "rows of this model cannot share a batch", got=f"--max-batch {most_rows}", expected="1", hint=batching.why
        )
    rows = (most_rows or MOST_ROWS) if batching.most else 1
    alike = padding_changes_answers(bundle)
    why = batching.why if not batching.most else "padding changes an answer of this model: only rows of one length"
    return Limits(rows, most_tokens or MOST_TOKENS, 1.0 if alike else SIMILAR, why if alike or rows == 1 else "")


@contextmanager
def open_answering(bundle: Bundle, limits: Limits, threads: int | None = None) -> Iterator[Answering]:
    """
    Args:
        threads: None for one a core.
    """
    front = front_of(bundle)
    with open_model(bundle, threads) as run:
        yield Answering(front, limits, run)


def _bad_line(number: int, reason: str) -> Line:
    return Line(number, json.dumps({"row": number, "reason": reason}).encode() + b"\n", bad=True)
