"""From a model's outputs to an answer, a function a task; numpy and the tokenizer's offsets, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Encoding, Tokenizer

# As transformers' question-answering pipeline.
LONGEST_ANSWER_TOKENS = 15
MASKS = ("<mask>", "[MASK]")


@dataclass(frozen=True)
class Read:
    """One request and what the model gave for it.

    Attributes:
        config: config.json of the checkpoint.
        encodings: of the one sequence, or of each choice.
        outputs: arrays by name, with a batch of one.
    """

    text: str
    choices: tuple[str, ...]
    top_k: int
    config: dict[str, Any]
    tokenizer: Tokenizer
    encodings: list[Encoding]
    outputs: dict[str, np.ndarray[Any, Any]]

    def label(self, index: int) -> str:
        return str(self.config.get("id2label", {}).get(str(index), f"LABEL_{index}"))


def softmax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Over the last axis."""
    import numpy as np

    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    normalised: np.ndarray[Any, Any] = shifted / shifted.sum(axis=-1, keepdims=True)
    return normalised


def features(read: Read) -> dict[str, Any]:
    """{"last_hidden_state": (N, E) as lists, ...}."""
    tokens = len(read.encodings[0].ids)
    return {name: (array[0, :tokens] if array.ndim == 3 else array[0]).tolist() for name, array in read.outputs.items()}


def mask_of(tokenizer: Tokenizer) -> str:
    """The mask token, by which of those that checkpoints use is in the vocabulary."""
    return MASKS[0] if tokenizer.token_to_id(MASKS[0]) is not None else MASKS[1]


def masked_tokens(read: Read) -> dict[str, Any]:
    """{"masks": [[{"token", "score", "text"}, ...best first], ...one for every mask]}."""
    mask = read.tokenizer.token_to_id(mask_of(read.tokenizer))
    ids = read.encodings[0].ids
    places = [place for place, token in enumerate(ids) if token == mask]
    if not places:
        raise InputError("the text has no mask to fill", got=read.text[:80], expected="<mask> or [MASK] in it")
    found = []
    for place in places:
        scores = softmax(read.outputs["logits"][0, place])
        best = scores.argsort()[::-1][: read.top_k]
        found.append(
            [
                {
                    "token": read.tokenizer.decode([int(token)], skip_special_tokens=False),
                    "score": float(scores[token]),
                    "text": read.tokenizer.decode([*ids[:place], int(token), *ids[place + 1 :]]),
                }
                for token in best
            ]
        )
    return {"masks": found}


def labels(read: Read) -> dict[str, Any]:
    """{"labels": [{"label", "score"}, ...best first]}; what a score is follows transformers' pipeline."""
    import numpy as np

    logits = read.outputs["logits"][0].astype(np.float64)
    problem = read.config.get("problem_type")
    if problem == "regression":
        scores = logits
    elif problem == "multi_label_classification" or logits.size == 1:
        scores = 1 / (1 + np.exp(-logits))
    else:
        scores = softmax(logits)
    best = scores.argsort()[::-1][: read.top_k]
    return {"labels": [{"label": read.label(index), "score": float(scores[index])} for index in best]}


def best_choice(read: Read) -> dict[str, Any]:
    """{"choice", "index", "scores": one for every choice}."""
    scores = softmax(read.outputs["logits"][0])
    best = int(scores.argmax())
    return {"choice": read.choices[best], "index": best, "scores": [float(score) for score in scores]}


def entities(read: Read) -> dict[str, Any]:
    """{"entities": [{"label", "score", "text", "start", "end"}, ...]}: neighbours of one label joined, O left out.

    As transformers' pipeline with aggregation "simple", but for entities without a character.
    """
    encoding = read.encodings[0]
    scores = softmax(read.outputs["logits"][0])
    groups: list[dict[str, Any]] = []
    for place, (start, end) in enumerate(encoding.offsets):
        if encoding.special_tokens_mask[place]:
            continue
        index = int(scores[place].argmax())
        label = read.label(index)
        tag = label[2:] if label.startswith(("B-", "I-")) else label
        previous = groups[-1] if groups else None
        if previous and previous["tag"] == tag and not label.startswith("B-"):
            previous["scores"].append(float(scores[place, index]))
            previous["end"] = end
        else:
            name = label.partition("-")[2] or label
            score = float(scores[place, index])
            groups.append({"label": name, "tag": tag, "scores": [score], "start": start, "end": end})
    return {
        "entities": [
            {
                "label": group["label"],
                "score": sum(group["scores"]) / len(group["scores"]),
                "text": read.text[group["start"] : group["end"]].strip(),
                "start": group["start"],
                "end": group["end"],
            }
            for group in groups
            if group["label"] != "O" and group["start"] < group["end"]
        ]
    }


def best_spans(read: Read) -> dict[str, Any]:
    """{"answers": [{"answer", "score", "start", "end"}, ...best first]}: spans of the document, in characters."""
    import numpy as np

    encoding = read.encodings[0]
    document = np.array([sequence == 1 for sequence in encoding.sequence_ids])
    if not document.any():
        return {"answers": []}  # an empty document
    start, end = (
        softmax(np.where(document, read.outputs[name][0, : len(document)], -np.inf))
        for name in ("start_logits", "end_logits")
    )
    scores = np.triu(np.outer(start, end))
    scores = scores - np.triu(scores, LONGEST_ANSWER_TOKENS)
    found: list[dict[str, Any]] = []
    for flat in scores.ravel().argsort()[::-1][: read.top_k]:
        first, last = divmod(int(flat), len(document))
        if scores[first, last] > 0:
            characters = encoding.offsets[first][0], encoding.offsets[last][1]
            text = read.text[characters[0] : characters[1]].strip()
            found.append(
                {"answer": text, "score": float(scores[first, last]), "start": characters[0], "end": characters[1]}
            )
    return {"answers": found}


ANSWERS: dict[str, Callable[[Read], dict[str, Any]]] = {
    "feature-extraction": features,
    "fill-mask": masked_tokens,
    "text-classification": labels,
    "multiple-choice": best_choice,
    "token-classification": entities,
    "question-answering": best_spans,
}
