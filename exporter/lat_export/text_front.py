"""From a request in words to its answer, whoever runs the model. Needs neither PyTorch nor transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export.answers import ANSWERS, Read
from lat_export.text_inputs import Request, encode, separator_of, text_inputs
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Encoding, Tokenizer

    Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Asked:
    """A request and its tokens: one encoding, or one for every choice."""

    request: Request
    encodings: list[Encoding]


@dataclass(frozen=True)
class TextFront:
    """What stands before and behind a model of one task.

    Attributes:
        config: config.json of the checkpoint.
    """

    signature: Signature
    tokenizer: Tokenizer
    config: dict[str, Any]

    def answer(self, request: Request, run: Callable[[Arrays], Arrays]) -> dict[str, Any]:
        """
        Args:
            request: one that `check_request` lets through.
            run: the model: arrays by input name, as `text_inputs` makes them, to arrays by output name.
        Returns:
            The answer as data: see `lat_export.answers` for each task.
        Raises:
            InputError: the text has not what the task needs, and whatever `run` raises.
        """
        asked = self.ask(request)
        return self.read(asked, run(self.inputs([asked])))

    def ask(self, request: Request) -> Asked:
        return Asked(request, encode(self.tokenizer, request, self.signature.task))

    def inputs(self, rows: Sequence[Asked]) -> Arrays:
        """Of one batch; every row has as many encodings."""
        return text_inputs(self.signature, [row.encodings for row in rows], separator_of(self.config))

    def read(self, asked: Asked, outputs: Arrays, row: int = 0) -> dict[str, Any]:
        """
        Args:
            outputs: of a batch, of which `row` is this request's.
        Raises:
            InputError: the text has not what the task needs.
        """
        request, own = asked.request, {name: array[row : row + 1] for name, array in outputs.items()}
        read = Read(request.text, request.choices, request.top_k, self.config, self.tokenizer, asked.encodings, own)
        return ANSWERS[self.signature.task](read)
