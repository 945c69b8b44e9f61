"""`lat-export run` with the tokenizers that the families' checkpoints come with, against transformers' pipelines.

ALBERT's (Unigram, lower case, [CLS] and [SEP]) for YOSO and Nystroemformer, RoBERTa's by its Longformer name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_tokenizers import albert_tokenizer, longformer_tokenizer

from lat_export.answers import LONGEST_ANSWER_TOKENS
from lat_export.errors import InputError
from lat_export.inference import Request, answer
from lat_export.pipeline import export
from lat_export.types import ModelSpec

TEXT = "The keeper of the Northern Tower kept the light through the storm, until the évening."
HEADS = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "multiple-choice": "AutoModelForMultipleChoice",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
CONFIG = {
    # Exact attention: transformers runs it at any length.
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
    "yoso": {},
    "longformer": {"attention_window": [8, 8]},
}
LABELS = {0: "O", 1: "B-PLACE", 2: "I-PLACE", 3: "B-TIME"}
Made = Callable[[str, str], tuple[Path, Any, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """`made(family, task)`: a bundle of a small checkpoint with its own tokenizer, and both in transformers."""
    folder = tmp_path_factory.mktemp("tokenizers")
    done: dict[tuple[str, str], tuple[Path, Any, Any]] = {}

    def get(family: str, task: str) -> tuple[Path, Any, Any]:
        if (family, task) not in done:
            tokenizer = longformer_tokenizer() if family == "longformer" else albert_tokenizer()
            labels = {0: "low", 1: "high", 2: "none"} if task == "text-classification" else LABELS
            config = transformers.AutoConfig.for_model(
                family,
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=48,
                max_position_embeddings=130,
                pad_token_id=tokenizer.pad_token_id,
                sep_token_id=tokenizer.sep_token_id,
                type_vocab_size=1 if family == "longformer" else 2,
                initializer_range=0.3,
                **({"num_labels": 2} if task == "question-answering" else {"id2label": labels}),
                **CONFIG[family],
            )
            torch.manual_seed(7)
            model = getattr(transformers, HEADS[task]).from_config(config).eval()
            checkpoint = folder / f"{family}-{task}"
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
            export(ModelSpec(str(checkpoint), "onnx", folder / f"{family}-{task}-bundle", task=task, validate=False))
            loaded = transformers.AutoTokenizer.from_pretrained(checkpoint)
            done[family, task] = folder / f"{family}-{task}-bundle", model, loaded
        return done[family, task]

    return get


families = pytest.mark.parametrize("family", CONFIG)


def test_the_tokenizers_are_of_their_kinds() -> None:
    albert, roberta = albert_tokenizer(), longformer_tokenizer()
    assert albert("Évening tower").tokens()[0] == "[CLS]"
    assert "e" in "".join(albert("Évening").tokens())  # accents and capitals go
    assert roberta("tower", "light").tokens().count("</s>") == 3


@families
def test_fill_mask(family: str, made: Made) -> None:
    folder, model, tokenizer = made(family, "fill-mask")
    text = f"The boats leaned on their {tokenizer.mask_token} until the evening."
    found = answer(folder, Request(text, top_k=4))["masks"][0]
    wanted = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=4)(text)
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in wanted], rel=1e-4)
    assert [row["token"].strip() for row in found] == [row["token_str"].strip() for row in wanted]
    assert [row["text"].strip() for row in found] == [row["sequence"].strip() for row in wanted]


@families
def test_text_classification(family: str, made: Made) -> None:
    folder, model, tokenizer = made(family, "text-classification")
    found = answer(folder, Request(TEXT))["labels"]
    wanted = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)([TEXT])[0]
    assert [row["label"] for row in found] == [row["label"] for row in wanted]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in wanted], rel=1e-4)


@families
def test_token_classification(family: str, made: Made) -> None:
    folder, model, tokenizer = made(family, "token-classification")
    found = answer(folder, Request(TEXT))["entities"]
    pipeline = transformers.pipeline(
        "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple"
    )
    wanted = [row for row in pipeline(TEXT) if row["start"] < row["end"]]
    assert len(wanted) > 1
    assert [row["label"] for row in found] == [row["entity_group"] for row in wanted]
    assert [(row["start"], row["end"]) for row in found] == [(row["start"], row["end"]) for row in wanted]
    assert [row["score"] for row in found] == pytest.approx([float(row["score"]) for row in wanted], rel=1e-4)


@families
def test_feature_extraction(family: str, made: Made) -> None:
    folder, model, tokenizer = made(family, "feature-extraction")
    found = torch.tensor(answer(folder, Request(TEXT))["last_hidden_state"])
    wanted = torch.tensor(transformers.pipeline("feature-extraction", model=model, tokenizer=tokenizer)(TEXT)[0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@families
def test_multiple_choice(family: str, made: Made) -> None:
    folder, model, tokenizer = made(family, "multiple-choice")
    choices = ("It was dry.", "It was dark, and the storm went on until the evening.", "Nobody kept it.")
    found = answer(folder, Request(TEXT, choices=choices))
    encoded = tokenizer([TEXT] * 3, list(choices), padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = model(**{name: rows[None] for name, rows in encoded.items()}).logits[0].softmax(-1)
    assert found["scores"] == pytest.approx(scores.tolist(), rel=1e-4)
    assert found["choice"] == choices[int(scores.argmax())]


@families
def test_question_answering(family: str, made: Made) -> None:
    folder, model, tokenizer = made(family, "question-answering")
    question = "Who kept the light?"
    found = answer(folder, Request(TEXT, question, top_k=1))["answers"][0]
    encoded = tokenizer(question, TEXT, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0]
    with torch.no_grad():
        given = model(**encoded)
    document = torch.tensor([sequence == 1 for sequence in encoded.sequence_ids(0)])
    start, end = (
        scores[0].masked_fill(~document, -torch.inf).softmax(-1) for scores in (given.start_logits, given.end_logits)
    )
    spans = torch.outer(start, end).triu().tril(LONGEST_ANSWER_TOKENS - 1)
    first, last = divmod(int(spans.argmax()), len(document))
    assert (found["start"], found["end"]) == (int(offsets[first][0]), int(offsets[last][1]))
    assert found["score"] == pytest.approx(float(spans.max()), rel=1e-4)


@pytest.mark.parametrize("family", ["yoso", "nystromformer"])
def test_numbers_of_the_two_texts_are_told_and_used_on_request(family: str, made: Made, tmp_path: Path) -> None:
    """ALBERT's tokenizer.json numbers the second text 1; transformers 5 passes no numbers unless asked."""
    folder, model, tokenizer = made(family, "question-answering")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert any("--inputs token_type_ids" in warning for warning in manifest["warnings"])
    spec = ModelSpec(str(folder.with_name(f"{family}-question-answering")), "onnx", tmp_path / "typed")
    typed = export(ModelSpec(spec.model, "onnx", spec.out, inputs=("token_type_ids",), validate=False))
    assert not any("--inputs token_type_ids" in warning for warning in typed.bundle.manifest["warnings"])
    question = "Who kept the light?"
    found = answer(spec.out, Request(TEXT, question, top_k=1))["answers"][0]
    encoded = tokenizer(question, TEXT, return_tensors="pt", return_token_type_ids=True)
    assert encoded["token_type_ids"].unique().tolist() == [0, 1]
    document = torch.tensor([sequence == 1 for sequence in encoded.sequence_ids(0)])
    with torch.no_grad():
        given = model(**encoded)
    start, end = (
        scores[0].masked_fill(~document, -torch.inf).softmax(-1) for scores in (given.start_logits, given.end_logits)
    )
    best = float(torch.outer(start, end).triu().tril(LONGEST_ANSWER_TOKENS - 1).max())
    assert found["score"] == pytest.approx(best, rel=1e-4)


@families
def test_a_text_longer_than_the_positions_is_an_error(family: str, made: Made) -> None:
    folder, _, _ = made(family, "text-classification")
    with pytest.raises(InputError, match="longer than the checkpoint's position table"):
        answer(folder, Request(TEXT * 20))
