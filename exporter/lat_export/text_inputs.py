"""Text to a model's inputs: tokens, masks, the task's default global tokens. Needs neither PyTorch nor transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Encoding, Tokenizer

# LongformerConfig.sep_token_id; the other families have no global tokens.
DEFAULT_SEPARATOR = 2


@dataclass(frozen=True)
class Request:
    """What to ask of a model.

    Attributes:
        question: for question-answering, of which `text` is the document.
        choices: for multiple-choice, endings or answers to `text`.
        top_k: answers to give where a task ranks them.
    """

    text: str
    question: str | None = None
    choices: tuple[str, ...] = ()
    top_k: int = 5


@dataclass(frozen=True)
class Terms:
    """What the place that a request comes from calls its parts: options of a command, keys of a line."""

    question: str = "--question"
    choices: str = "--choice"
    text: str = "--text"
    hint_on_question: str = "--text is the document, --question what is asked of it"
    hint_on_choices: str = "give --choice once for every choice"


def check_request(request: Request, task: str, terms: Terms = Terms()) -> None:
    """
    Raises:
        InputError: the request lacks what its task needs, has what it does not take, or is no Unicode text.
    """
    if (task == "question-answering") != (request.question is not None):
        wanted = "needs" if task == "question-answering" else "takes no"
        raise InputError(f"{task} {wanted} {terms.question}", hint=terms.hint_on_question)
    if (task == "multiple-choice") != bool(request.choices):
        wanted = "needs" if task == "multiple-choice" else "takes no"
        raise InputError(f"{task} {wanted} {terms.choices}", hint=terms.hint_on_choices)
    _check_unicode(request.text, terms.text)
    _check_unicode(request.question or "", terms.question)
    for choice in request.choices:
        _check_unicode(choice, terms.choices)


def _check_unicode(text: str, what: str) -> None:
    """A shell's bytes that are no UTF-8, and an escape in JSON, can be half a surrogate pair in Python."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} is no Unicode text",
            got=f"half a surrogate pair at character {error.start}",
            hint="give it in UTF-8; an escape of JSON has both halves, as \\ud83d\\ude00",
        ) from error


def encode(tokenizer: Tokenizer, request: Request, task: str) -> list[Encoding]:
    """One encoding, or one for every choice."""
    if task == "question-answering":
        return [tokenizer.encode(request.question, request.text)]
    if task == "multiple-choice":
        return [tokenizer.encode(request.text, choice) for choice in request.choices]
    return [tokenizer.encode(request.text)]


def text_inputs(
    signature: Signature, rows: Sequence[Sequence[Encoding]], separator: int | None
) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays as the signature names them, padded to the longest encoding and to a whole multiple where needed.

    Args:
        rows: the encodings of every row of the batch: one, or one for every choice, of which all have as many.
        separator: as `separator_of` has it.
    Returns:
        (B, N) int64 by input name, for multiple-choice (B, C, N). That they fit the signature is not checked here.
    """
    import numpy as np

    encodings = [encoding for row in rows for encoding in row]
    tokens = max(padded_tokens(signature, row) for row in rows)
    ids = np.full((len(encodings), tokens), signature.pad_token_id, np.int64)
    keep, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        keep[row, : len(encoding.ids)] = 1
        types[row, : len(encoding.ids)] = encoding.type_ids
    arrays = {
        "input_ids": ids,
        "attention_mask": keep,
        "global_attention_mask": default_globals(signature.default_globals, ids, separator) * keep,
        "token_type_ids": np.minimum(types, _largest(signature, "token_type_ids")),
        "position_ids": np.broadcast_to(np.arange(tokens) + signature.first_position, ids.shape).copy(),
    }
    shape = (len(rows), -1, tokens) if "choices" in signature.token_dims else ids.shape
    return {spec.name: arrays[spec.name].reshape(shape) for spec in signature.inputs}


def padded_tokens(signature: Signature, encodings: Sequence[Encoding]) -> int:
    """N of a row on its own: its longest encoding, up to a whole multiple where needed."""
    step = signature.multiple_of
    return -(-max(len(encoding.ids) for encoding in encodings) // step) * step


def _largest(signature: Signature, name: str) -> int:
    return next((spec.below - 1 for spec in signature.inputs if spec.name == name and spec.below), 0)


def separator_of(config: dict[str, Any]) -> int | None:
    """The id that ends the first of two texts, from config.json, which need not name what is transformers' default."""
    separator: int | None = config.get("sep_token_id", DEFAULT_SEPARATOR)
    return separator


def default_globals(rule: str, ids: np.ndarray[Any, Any], separator: int | None) -> np.ndarray[Any, Any]:
    """Which tokens a task makes global, as transformers' task heads choose where none are given.

    Args:
        rule: "none", "first", "before the separator" or "after the separator", the first one of a row.
        ids: (rows, N) int64.
    Returns:
        (rows, N) int64 of 0 and 1.
    """
    import numpy as np

    position = np.arange(ids.shape[1])[None]
    if rule == "first":
        return np.broadcast_to(position == 0, ids.shape).astype(np.int64)
    if rule == "none" or separator is None:
        return np.zeros_like(ids)
    first = (ids == separator).argmax(axis=1)[:, None]
    # _compute_global_attention_mask: before it, or from the second token after it on.
    chosen = position < first if rule == "before the separator" else position > first + 1
    return np.asarray(chosen, dtype=np.int64)
