"""The six tasks: names of transformers' pipelines, the suffix of the model class, and what the model gives."""

from __future__ import annotations

from dataclasses import dataclass

from lat_export.errors import InputError


@dataclass(frozen=True)
class Task:
    """One task head.

    Attributes:
        class_suffix: with the family's class prefix it names the class in transformers.
        outputs: (name, dims) as transformers names them; "hidden", "vocab" and "labels" stand for sizes of the config.
        input_dims: dims of every token input.
        two_texts: whether a row is a pair of texts: question and document, text and choice.
    """

    name: str
    class_suffix: str
    outputs: tuple[tuple[str, tuple[str, ...]], ...]
    input_dims: tuple[str, ...] = ("batch", "sequence")
    two_texts: bool = False


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "feature-extraction",
            "Model",
            (
                ("last_hidden_state", ("batch", "sequence", "hidden")),
                ("pooler_output", ("batch", "hidden")),
            ),
        ),
        Task("fill-mask", "ForMaskedLM", (("logits", ("batch", "sequence", "vocab")),)),
        Task("text-classification", "ForSequenceClassification", (("logits", ("batch", "labels")),)),
        Task(
            "multiple-choice",
            "ForMultipleChoice",
            (("logits", ("batch", "choices")),),
            input_dims=("batch", "choices", "sequence"),
            two_texts=True,
        ),
        Task("token-classification", "ForTokenClassification", (("logits", ("batch", "sequence", "labels")),)),
        Task(
            "question-answering",
            "ForQuestionAnswering",
            (("start_logits", ("batch", "sequence")), ("end_logits", ("batch", "sequence"))),
            two_texts=True,
        ),
    )
}


def task_named(name: str) -> Task:
    """The task of that name, or an `InputError` that lists the known ones."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}", got=name, expected=", ".join(TASKS))
    return TASKS[name]
