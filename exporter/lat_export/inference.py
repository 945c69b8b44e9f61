"""Text through a bundle: tokenizer, default global tokens, artifact, answer. Needs neither PyTorch nor transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.answers import ANSWERS, Read
from lat_export.errors import InputError
from lat_export.stages.bundle import TOKENIZER_FOLDER, Bundle, read_bundle
from lat_export.targets import PORTABLE_MODEL
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.ort import OPTIMISED_MODEL
from lat_export.tokenizer_file import read_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Encoding, Tokenizer


@dataclass(frozen=True)
class Request:
    """What to ask of a bundle.

    Attributes:
        question: for question-answering, of which `text` is the document.
        choices: for multiple-choice, endings or answers to `text`.
        top_k: answers to give where a task ranks them.
    """

    text: str
    question: str | None = None
    choices: tuple[str, ...] = ()
    top_k: int = 5


def answer(folder: Path, request: Request) -> dict[str, Any]:
    """Run one request.

    Returns:
        The answer as data: see `lat_export.answers` for each task.
    Raises:
        InputError: the bundle has no tokenizer, takes embeddings, or the request lacks what its task needs.
        ShapeError: the text is longer than the checkpoint's positions.
    """
    bundle = read_bundle(folder)
    signature = bundle.signature
    _check(request, signature.task)
    if not signature.has_input("input_ids"):
        raise InputError("this bundle takes inputs_embeds, not text", got=folder)
    tokenizer = _tokenizer(bundle)
    encodings = _encode(tokenizer, request, signature.task)
    inputs = _inputs(bundle, tokenizer, encodings)
    model = folder / (OPTIMISED_MODEL if (folder / OPTIMISED_MODEL).is_file() else PORTABLE_MODEL)
    with open_runner(model, signature) as run:
        outputs = run(inputs)
    config = json.loads((folder / "config.json").read_text())
    read = Read(request.text, request.choices, request.top_k, config, tokenizer, encodings, outputs)
    return ANSWERS[signature.task](read)


def _check(request: Request, task: str) -> None:
    if (task == "question-answering") != (request.question is not None):
        wanted = "needs" if task == "question-answering" else "takes no"
        raise InputError(f"{task} {wanted} --question", hint="--text is the document, --question what is asked of it")
    if (task == "multiple-choice") != bool(request.choices):
        wanted = "needs" if task == "multiple-choice" else "takes no"
        raise InputError(f"{task} {wanted} --choice", hint="give --choice once for every choice")


def _tokenizer(bundle: Bundle) -> Tokenizer:
    tokenizer = read_tokenizer(bundle.folder / TOKENIZER_FOLDER)
    if tokenizer is None:
        raise InputError(
            "the bundle has no tokenizer.json",
            got=bundle.folder,
            hint="save the tokenizer beside the checkpoint (tokenizer.save_pretrained) and export again",
        )
    return tokenizer


def _encode(tokenizer: Tokenizer, request: Request, task: str) -> list[Encoding]:
    """One encoding, or one for every choice."""
    if task == "question-answering":
        return [tokenizer.encode(request.question, request.text)]
    if task == "multiple-choice":
        return [tokenizer.encode(request.text, choice) for choice in request.choices]
    return [tokenizer.encode(request.text)]


def _inputs(bundle: Bundle, tokenizer: Tokenizer, encodings: list[Encoding]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays as the signature names them, padded to the longest encoding and to a whole multiple where needed."""
    import numpy as np

    signature = bundle.signature
    step = signature.multiple_of
    tokens = -(-max(len(encoding.ids) for encoding in encodings) // step) * step
    ids = np.full((len(encodings), tokens), signature.pad_token_id, np.int64)
    keep, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        keep[row, : len(encoding.ids)] = 1
        types[row, : len(encoding.ids)] = encoding.type_ids
    separator = json.loads((bundle.folder / "config.json").read_text()).get("sep_token_id")
    arrays = {
        "input_ids": ids,
        "attention_mask": keep,
        "global_attention_mask": default_globals(signature.default_globals, ids, separator) * keep,
        "token_type_ids": np.minimum(types, _largest(bundle, "token_type_ids")),
        "position_ids": np.broadcast_to(np.arange(tokens) + signature.first_position, ids.shape).copy(),
    }
    shape = (1, *ids.shape) if "choices" in signature.token_dims else ids.shape
    return {spec.name: arrays[spec.name].reshape(shape) for spec in signature.inputs}


def _largest(bundle: Bundle, name: str) -> int:
    return next((spec.below - 1 for spec in bundle.signature.inputs if spec.name == name and spec.below), 0)


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
