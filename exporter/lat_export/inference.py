"""Text through a bundle: tokenizer, default global tokens, artifact, answer. Needs neither PyTorch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.native import ort_library
from lat_export.stages.bundle import TOKENIZER_FOLDER, Bundle, read_bundle
from lat_export.targets.contract import Runner
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.ort import best_model
from lat_export.text_front import TextFront
from lat_export.text_inputs import Request, check_request
from lat_export.tokenizer_file import read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Request", "answer", "front_of", "open_model"]


def answer(folder: Path, request: Request) -> dict[str, Any]:
    """Run one request.

    Returns:
        The answer as data: see `lat_export.answers` for each task.
    Raises:
        InputError: the bundle has no tokenizer, takes embeddings, or the request lacks what its task needs.
        ShapeError: the text is longer than the checkpoint's positions.
    """
    bundle = read_bundle(folder)
    check_request(request, bundle.signature.task)
    front = front_of(bundle)
    with open_model(bundle) as run:
        return front.answer(request, run)


def front_of(bundle: Bundle) -> TextFront:
    """
    Raises:
        InputError: the bundle has no tokenizer, or takes embeddings.
    """
    if not bundle.signature.has_input("input_ids"):
        raise InputError("this bundle takes inputs_embeds, not text", got=bundle.folder)
    return TextFront(bundle.signature, _tokenizer(bundle), json.loads((bundle.folder / "config.json").read_text()))


@contextmanager
def open_model(bundle: Bundle, threads: int | None = None) -> Iterator[Runner]:
    """The fastest model of a bundle in onnxruntime on this machine's processor.

    Args:
        threads: None for one a core.
    """
    native_ops = ort_library()
    model = best_model(bundle.folder, bundle.forms, native_ops)
    with open_runner(model, bundle.signature, native_ops, threads=threads) as run:
        yield run


def _tokenizer(bundle: Bundle) -> Tokenizer:
    tokenizer = read_tokenizer(bundle.folder / TOKENIZER_FOLDER)
    if tokenizer is None:
        raise InputError(
            "the bundle has no tokenizer.json",
            got=bundle.folder,
            hint="save the tokenizer beside the checkpoint (tokenizer.save_pretrained) and export again",
        )
    return tokenizer
