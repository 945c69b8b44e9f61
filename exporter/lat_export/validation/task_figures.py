"""What users of a task look at: how often two answers are the same, beside how far their numbers are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

TOP_TOKENS = 5


def task_figures(task: str, outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> dict[str, float]:
    """Figures by name, each a share from 0 to 1; none for tasks whose answer is the numbers themselves.

    Args:
        outputs: finite arrays of the shapes of `reference`.
        keep: bool (rows, positions): the tokens that are no padding, of the positions that the arrays have.
    """
    rule = FIGURES.get(task)
    return rule(outputs, reference, keep) if rule else {}


def _same_best(outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> float:
    """Share of rows (over the last axis) whose largest number stands at the same place."""
    return float((outputs["logits"].argmax(-1) == reference["logits"].argmax(-1)).mean())


def _labels(outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"label agreement": _same_best(outputs, reference, keep)}


def _choices(outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"choice agreement": _same_best(outputs, reference, keep)}


def _token_labels(outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> dict[str, float]:
    if not keep.any():
        return {}
    same = outputs["logits"].argmax(-1) == reference["logits"].argmax(-1)
    return {"label agreement": float(same[keep].mean())}


def _top_tokens(outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> dict[str, float]:
    """Of the `TOP_TOKENS` best tokens of every position, the share that both name; and how often the best is one."""
    import numpy as np

    if not keep.any():
        return {}
    found, wanted = outputs["logits"][keep], reference["logits"][keep]
    best = [np.argpartition(-scores, TOP_TOKENS - 1, axis=-1)[:, :TOP_TOKENS] for scores in (found, wanted)]
    overlap = (best[0][:, :, None] == best[1][:, None, :]).any(-1).mean()
    same = (found.argmax(-1) == wanted.argmax(-1)).mean()
    return {f"top-{TOP_TOKENS} overlap": float(overlap), "best token agreement": float(same)}


def _spans(outputs: Arrays, reference: Arrays, keep: np.ndarray[Any, Any]) -> dict[str, float]:
    """Share of rows with the same best span, its end not before its start."""
    import numpy as np

    same = []
    for row in np.flatnonzero(keep.any(-1)):
        spans = []
        for arrays in (outputs, reference):
            start, end = (arrays[name][row][keep[row]].astype(np.float64) for name in ("start_logits", "end_logits"))
            best_end = np.maximum.accumulate(end[::-1])[::-1]  # from each start on
            first = int((start + best_end).argmax())
            spans.append((first, first + int(end[first:].argmax())))
        same.append(spans[0] == spans[1])
    return {"span agreement": float(np.mean(same))} if same else {}


FIGURES: dict[str, Callable[..., dict[str, float]]] = {
    "fill-mask": _top_tokens,
    "text-classification": _labels,
    "multiple-choice": _choices,
    "token-classification": _token_labels,
    "question-answering": _spans,
}
