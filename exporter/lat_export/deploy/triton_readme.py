"""README.md of a model repository: how to start the server, what to send, what the limits are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lat_export.answers import mask_of
from lat_export.stages.bundle import TOKENIZER_FOLDER
from lat_export.tokenizer_file import read_tokenizer

if TYPE_CHECKING:
    from lat_export.deploy.triton import Tensors

TEXT = "A text."
# Seen with nvidia-pytriton 0.5.13 and 0.7.0, whose server is the same: tensors have no elements, and one of strings
# ends the stub.
OLD_STUB = "Servers as old as 2.51 read numpy's arrays as numpy 1 has them: there, numpy below 2."
BODIES: dict[str, dict[str, list[str]]] = {
    "question-answering": {"question": ["What is it?"]},
    "multiple-choice": {"choices": ["One end.", "Another."]},
    "fill-mask": {},
}


def readme(tensors: Tensors, models: dict[str, str], notes: tuple[str, ...], start: str) -> str:
    """
    Args:
        models: by what they take, "tensors" and, where there is one, "text".
        start: the command that serves the repository.
    """
    lines = [
        f"# {tensors.bundle.signature.family}, {tensors.bundle.signature.task}, for NVIDIA Triton Inference Server",
        "",
        "Written by `lat-export bundle --format triton`; `deployment.json` has the SHA-256 of every file.",
        "",
        "```bash",
        start,
        *([_request(tensors, models["text"])] if "text" in models else []),
        "```",
        "",
        *_models(tensors, models),
        "",
        *(f"- {note}" for note in notes),
        "",
        *_needs(tensors, models),
    ]
    return "\n".join(lines) + "\n"


def _request(tensors: Tensors, model: str) -> str:
    """A request for curl."""
    task = tensors.bundle.signature.task
    text = f"A {_mask(tensors)}." if task == "fill-mask" else TEXT
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [len(data)], "data": data}
        for name, data in {"text": [text], **BODIES.get(task, {})}.items()
    ]
    return f"curl -s localhost:8000/v2/models/{model}/infer -d '{json.dumps({'inputs': inputs})}'"


def _mask(tensors: Tensors) -> str:
    tokenizer = read_tokenizer(tensors.bundle.folder / TOKENIZER_FOLDER)
    assert tokenizer is not None, "there is no model of text without one"
    return mask_of(tokenizer)


def _models(tensors: Tensors, models: dict[str, str]) -> list[str]:
    lines = [f"- `{models['tensors']}`: tensors to tensors, by Triton's {tensors.backend} backend."]
    if "text" in models:
        lines.append(f"- `{models['text']}`: text to the answer of the task, JSON in `answer`, like `lat-export run`.")
    return lines


def _needs(tensors: Tensors, models: dict[str, str]) -> list[str]:
    """What the python backend imports."""
    packages = ["numpy"] * (tensors.backend == "python" or "text" in models)
    packages += ["onnxruntime"] * (tensors.backend == "python") + ["tokenizers"] * ("text" in models)
    return [f"The python backend needs {', '.join(packages)} in the server's Python. {OLD_STUB}"] if packages else []
