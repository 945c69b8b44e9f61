"""Text through a bundle: tokenizer, default global tokens, artifact, answer. Needs neither PyTorch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.native import ort_library
from lat_export.stages.bundle import TOKENIZER_FOLDER, Bundle, read_bundle
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.ort import best_model
from lat_export.text_front import TextFront
from lat_export.text_inputs import Request, check_request
from lat_export.tokenizer_file import read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Request", "answer"]


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
    check_request(request, signature.task)
    if not signature.has_input("input_ids"):
        raise InputError("this bundle takes inputs_embeds, not text", got=folder)
    tokenizer = _tokenizer(bundle)
    config = json.loads((folder / "config.json").read_text())
    front = TextFront(signature, tokenizer, config)
    native_ops = ort_library()
    with open_runner(best_model(folder, bundle.forms, native_ops), signature, native_ops) as run:
        return front.answer(request, run)


def _tokenizer(bundle: Bundle) -> Tokenizer:
    tokenizer = read_tokenizer(bundle.folder / TOKENIZER_FOLDER)
    if tokenizer is None:
        raise InputError(
            "the bundle has no tokenizer.json",
            got=bundle.folder,
            hint="save the tokenizer beside the checkpoint (tokenizer.save_pretrained) and export again",
        )
    return tokenizer
