"""From a request in words to its answer, whoever runs the model. Needs neither PyTorch nor transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export.answers import ANSWERS, Read
from lat_export.text_inputs import Request, encode, text_inputs
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

    Arrays = dict[str, np.ndarray[Any, Any]]


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
        task = self.signature.task
        encodings = encode(self.tokenizer, request, task)
        outputs = run(text_inputs(self.signature, encodings, self.config.get("sep_token_id")))
        read = Read(request.text, request.choices, request.top_k, self.config, self.tokenizer, encodings, outputs)
        return ANSWERS[task](read)
