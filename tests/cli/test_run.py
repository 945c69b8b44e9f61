"""`lat-export run`: the answers of every task against transformers' own forward and defaults."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import GOLDEN
from transformers import TokenClassificationPipeline
from transformers.models.longformer.modeling_longformer import _compute_global_attention_mask

from lat_export.answers import Read, best_spans, entities, labels
from lat_export.errors import InputError
from lat_export.inference import Request, answer, front_of
from lat_export.pipeline import Exported
from lat_export.text_inputs import default_globals

Export = Callable[..., Exported]
TEXT = "The keeper of the northern tower kept the light through the storm."


def model_and_tokenizer(family: str, task: str, suffix: str) -> tuple[Any, Any]:
    checkpoint = GOLDEN / family / task / "checkpoint"
    prefix = {"longformer": "Longformer", "yoso": "Yoso", "nystromformer": "Nystromformer"}[family]
    model = getattr(transformers, prefix + suffix).from_pretrained(checkpoint).eval()
    return model, transformers.AutoTokenizer.from_pretrained(checkpoint)


def test_question_answering_is_transformers_with_its_default_globals(exported: Export) -> None:
    """No global mask is given to transformers: it marks the question itself."""
    question = "Who kept the light?"
    found = answer(exported("question-answering").bundle.folder, Request(TEXT, question, top_k=1))["answers"][0]
    model, tokenizer = model_and_tokenizer("longformer", "question-answering", "ForQuestionAnswering")
    encoded = tokenizer(question, TEXT, return_tensors="pt", return_offsets_mapping=True)
    with torch.no_grad():
        given = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
    document = torch.tensor([sequence == 1 for sequence in encoded.sequence_ids(0)])
    start, end = (
        scores[0].masked_fill(~document, -torch.inf).softmax(-1) for scores in (given.start_logits, given.end_logits)
    )
    spans = {
        (first, last): float(start[first] * end[last])
        for first in range(len(document))
        for last in range(first, min(first + 15, len(document)))
    }
    (first, last), score = max(spans.items(), key=lambda item: item[1])
    offsets = encoded["offset_mapping"][0]
    assert (found["start"], found["end"]) == (int(offsets[first][0]), int(offsets[last][1]))
    assert found["score"] == pytest.approx(score, rel=1e-4)
    assert found["answer"] == TEXT[found["start"] : found["end"]].strip()


@pytest.mark.parametrize("family", ["longformer", "yoso"])
def test_text_classification_is_transformers(family: str, exported: Export) -> None:
    found = answer(exported("text-classification", family=family).bundle.folder, Request(TEXT))["labels"]
    model, tokenizer = model_and_tokenizer(family, "text-classification", "ForSequenceClassification")
    with torch.no_grad():
        scores = model(**tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)).logits[0].softmax(-1)
    assert found[0]["label"] == f"LABEL_{int(scores.argmax())}"
    assert sorted((row["score"] for row in found), reverse=True) == [row["score"] for row in found]
    assert found[0]["score"] == pytest.approx(float(scores.max()), rel=1e-4)


def test_fill_mask_is_transformers(exported: Export) -> None:
    text = "The boats leaned on their <mask> until the evening."
    found = answer(exported("fill-mask").bundle.folder, Request(text, top_k=3))["masks"]
    model, tokenizer = model_and_tokenizer("longformer", "fill-mask", "ForMaskedLM")
    encoded = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    place = int((encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero())
    with torch.no_grad():
        logits = model(**encoded, global_attention_mask=torch.zeros_like(encoded["input_ids"])).logits[0, place]
    best = logits.softmax(-1).topk(3)
    assert [row["token"] for row in found[0]] == [tokenizer.decode([token]) for token in best.indices]
    assert [row["score"] for row in found[0]] == pytest.approx(best.values.tolist(), rel=1e-4)


@pytest.mark.parametrize("family", ["longformer", "nystromformer"])
def test_multiple_choice_scores_every_choice(family: str, exported: Export) -> None:
    folder = exported("multiple-choice", family=family).bundle.folder
    choices = ("It was dry.", "It was dark, and the storm went on until the evening.")
    found = answer(folder, Request(TEXT, choices=choices))
    assert found["choice"] == choices[found["index"]]
    assert sum(found["scores"]) == pytest.approx(1.0)
    assert found["index"] == int(np.argmax(found["scores"]))


def test_default_globals_are_those_of_transformers() -> None:
    ids = np.array([[0, 7, 8, 2, 2, 9, 9, 9, 2], [0, 7, 2, 2, 9, 9, 9, 9, 2]])
    for rule, before in (("before the separator", True), ("after the separator", False)):
        wanted = _compute_global_attention_mask(torch.from_numpy(ids), 2, before_sep_token=before)
        assert (default_globals(rule, ids, 2) == wanted.numpy()).all()
    assert default_globals("first", ids, 2).tolist() == [[1] + [0] * 8] * 2
    assert not default_globals("none", ids, 2).any()


def test_a_config_need_not_name_the_separator_that_transformers_takes_anyway(exported: Export) -> None:
    front = front_of(exported("question-answering").bundle)
    assert front.config["sep_token_id"] == transformers.LongformerConfig().sep_token_id
    silent = replace(front, config={name: value for name, value in front.config.items() if name != "sep_token_id"})
    wanted, found = (one.inputs([one.ask(Request(TEXT, "Who kept it?"))]) for one in (front, silent))
    assert wanted["global_attention_mask"].any()
    assert (found["global_attention_mask"] == wanted["global_attention_mask"]).all()


# Six tokens over "Ann saw New York.", the first and last special.
ENCODING = SimpleNamespace(
    ids=[0, 5, 6, 7, 8, 2],
    offsets=[(0, 0), (0, 3), (4, 7), (8, 11), (12, 16), (0, 0)],
    special_tokens_mask=[1, 0, 0, 0, 0, 1],
    sequence_ids=[None, 0, 0, 0, 0, None],
)


def read_of(logits: np.ndarray, config: dict[str, object]) -> Read:
    return Read("Ann saw New York.", (), 5, config, None, [ENCODING], {"logits": logits[None]})  # type: ignore[arg-type, list-item]


def test_neighbouring_tokens_of_one_label_are_one_entity() -> None:
    names = {"0": "O", "1": "B-PER", "2": "B-LOC", "3": "I-LOC"}
    logits = np.full((6, 4), -5.0)
    for place, index in enumerate((0, 1, 0, 2, 3, 0)):
        logits[place, index] = 5.0
    found = entities(read_of(logits, {"id2label": names}))["entities"]
    assert [(row["label"], row["text"]) for row in found] == [("PER", "Ann"), ("LOC", "New York")]


@pytest.mark.parametrize(
    ("predicted", "names"),
    [
        (("B-geo-loc", "I-geo-loc", "I-fac-loc", "B-fac-loc"), ["geo-loc", "fac-loc", "fac-loc"]),
        (("per-nam", "geo-nam", "geo-nam", "B-x"), ["nam", "nam", "x"]),
        (("B", "I", "I", "O"), ["B", "I"]),
        (("B-x", "L-x", "U-x", "I-x"), ["x", "x", "x", "x"]),
    ],
)
def test_labels_with_further_dashes_are_joined_and_named_as_in_transformers(
    predicted: tuple[str, ...], names: list[str]
) -> None:
    logits = np.eye(6, 4, k=-1) * 10
    config = {"id2label": {str(index): label for index, label in enumerate(predicted)}}
    found = entities(read_of(logits, config))["entities"]
    assert [row["label"] for row in found] == names
    rows = [
        {"entity": label, "score": 1.0, "word": "", "start": start, "end": end}
        for label, (start, end) in zip(predicted, ENCODING.offsets[1:], strict=False)
    ]
    pipeline = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer = SimpleNamespace(convert_tokens_to_string="".join)
    wanted = [row for row in pipeline.group_entities(rows) if row["entity_group"] != "O"]
    assert [(row["start"], row["end"]) for row in found] == [(row["start"], row["end"]) for row in wanted]
    assert names == [row["entity_group"] for row in wanted]


def test_an_empty_document_has_no_answer() -> None:
    logits = {name: np.zeros((1, 6), np.float32) for name in ("start_logits", "end_logits")}
    read = Read("", (), 5, {}, None, [ENCODING], logits)  # type: ignore[arg-type, list-item]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert best_spans(read) == {"answers": []}


@pytest.mark.parametrize(
    ("problem", "wanted"),
    [
        ("regression", [1.0, 0.0]),
        ("multi_label_classification", [0.731, 0.5]),
        ("single_label_classification", [0.731, 0.269]),
        (None, [0.731, 0.269]),
    ],
)
def test_scores_follow_the_problem_type(problem: str | None, wanted: list[float]) -> None:
    found = labels(read_of(np.array([1.0, 0.0]), {"problem_type": problem, "id2label": {"0": "yes", "1": "no"}}))[
        "labels"
    ]
    assert [row["label"] for row in found] == ["yes", "no"]
    assert [row["score"] for row in found] == pytest.approx(wanted, abs=1e-3)


def test_one_logit_is_a_sigmoid() -> None:
    assert labels(read_of(np.array([0.0]), {}))["labels"] == [{"label": "LABEL_0", "score": 0.5}]


@pytest.mark.parametrize(
    ("task", "request_", "words"),
    [
        ("question-answering", Request(TEXT), "needs --question"),
        ("text-classification", Request(TEXT, "Why?"), "takes no --question"),
        ("multiple-choice", Request(TEXT), "needs --choice"),
        ("fill-mask", Request("Nothing is missing here."), "no mask to fill"),
        ("text-classification", Request("caf\udce9"), "--text is no Unicode text"),
        ("question-answering", Request(TEXT, "caf\udce9?"), "--question is no Unicode text"),
        ("multiple-choice", Request(TEXT, choices=("tea", "caf\udce9")), "--choice is no Unicode text"),
    ],
)
def test_a_request_that_does_not_fit_is_named(task: str, request_: Request, words: str, exported: Export) -> None:
    with pytest.raises(InputError, match=words):
        answer(exported(task).bundle.folder, request_)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_an_answer_without_pytorch(as_json: bool, exported: Export) -> None:
    folder: Path = exported("token-classification", family="nystromformer").bundle.folder
    arguments = ["lat-export", "run", str(folder), "--text", TEXT, *(["--json"] if as_json else [])]
    code = f"""
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
sys.argv = {arguments!r}
from lat_export.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if as_json:
        assert all(row["text"] in TEXT for row in json.loads(done.stdout)["entities"])
    else:
        assert "label" in done.stdout
        assert "score" in done.stdout
