"""Golden tensors of a user's own cases: texts as `run` reads them, arrays by name, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import GOLDEN

from lat_export import text_front
from lat_export.errors import InputError, ParityError
from lat_export.goldens import check_goldens, make_golden
from lat_export.inference import Request, answer
from lat_export.pipeline import export
from lat_export.revalidation import revalidate
from lat_export.types import ModelSpec
from lat_export.validation.compare import difference
from lat_export.validation.given_cases import given_cases
from lat_export.validation.golden import Golden

TEXT = "The keeper of the northern tower kept the light through the storm."
QUESTION = "Who kept the light?"
QUESTIONS = json.dumps({"text": TEXT, "question": QUESTION}) + "\n\n" + json.dumps({"text": "A.", "question": "B?"})
SIGNATURE = Golden(GOLDEN / "longformer" / "question-answering").signature


def spec(out: Path, task: str = "question-answering", family: str = "longformer", **more: Any) -> ModelSpec:
    return ModelSpec(str(GOLDEN / family / task / "checkpoint"), "onnx", out, **more)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def arrays(tokens: int = 9) -> dict[str, np.ndarray[Any, Any]]:
    mask = np.ones((2, tokens), np.int64)
    return {"input_ids": np.arange(3, 3 + 2 * tokens).reshape(2, -1), "attention_mask": mask,
            "global_attention_mask": np.eye(2, tokens, dtype=np.int64)}  # fmt: skip


def test_texts_are_what_transformers_makes_of_them(tmp_path: Path) -> None:
    """No global mask is given to transformers: it marks the question itself."""
    golden = make_golden(spec(tmp_path / "out"), written(tmp_path / "q.jsonl", QUESTIONS))
    assert [case.case.name.split(" B=")[0] for case in golden] == ["q.jsonl line 1", "q.jsonl line 3"]
    checkpoint = GOLDEN / "longformer" / "question-answering" / "checkpoint"
    encoded = transformers.AutoTokenizer.from_pretrained(checkpoint)(QUESTION, TEXT, return_tensors="pt")
    model = transformers.LongformerForQuestionAnswering.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        given = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
    first = next(iter(golden))
    assert first.computed_by == "transformers"
    assert first.inputs["input_ids"].tolist() == encoded["input_ids"].tolist()
    for name in ("start_logits", "end_logits"):
        assert difference(first.outputs[name], given[name].numpy()).relative_l2 <= 1e-6


def test_texts_are_what_run_feeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Nystroemformer takes multiples of its landmarks; multiple-choice has a row a choice."""
    choices = ("It was the keeper of the tower.", "No.")
    line = json.dumps({"text": TEXT, "choices": choices})
    asked = spec(tmp_path / "out", "multiple-choice", "nystromformer")
    (case,) = make_golden(asked, written(tmp_path / "c.jsonl", line))
    export(spec(tmp_path / "bundle", "multiple-choice", "nystromformer", validate=False))
    fed: list[dict[str, Any]] = []
    real = text_front.text_inputs

    def kept(*given: Any) -> dict[str, Any]:
        fed.append(real(*given))
        return fed[-1]

    monkeypatch.setattr(text_front, "text_inputs", kept)
    answer(tmp_path / "bundle", Request(TEXT, choices=choices))
    assert case.inputs["input_ids"].shape[:2] == (1, 2)
    assert case.inputs["input_ids"].shape == fed[0]["input_ids"].shape
    assert all((case.inputs[name] == fed[0][name]).all() for name in fed[0])
    assert "C=2" in case.case.name


def test_bundle_is_validated_against_own_cases(checkpoint: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "call.npz", **arrays())
    texts = written(tmp_path / "q.jsonl", QUESTIONS)
    make_golden(spec(tmp_path / "golden"), texts, (tmp_path / "call.npz",))
    export(ModelSpec(str(checkpoint), "onnx", tmp_path / "bundle", validate=False))
    (subject,) = revalidate(tmp_path / "bundle", golden=tmp_path / "golden").subjects
    assert {row.case for row in subject.rows} >= {"call.npz B=2 N=9"}
    assert len(subject.rows) == 6
    assert subject.verdict == "passed"


def test_one_text_a_line(tmp_path: Path) -> None:
    texts = written(tmp_path / "t.txt", f"{TEXT}\n{{not json}}\n")
    golden = make_golden(spec(tmp_path / "out", "text-classification"), texts)
    assert len(golden) == 2


def test_json_lines_are_known_by_the_first(tmp_path: Path) -> None:
    texts = written(tmp_path / "t.txt", json.dumps({"text": TEXT}))
    (plain,) = make_golden(spec(tmp_path / "plain", "fill-mask"), written(tmp_path / "p.txt", TEXT))
    (parsed,) = make_golden(spec(tmp_path / "parsed", "fill-mask"), texts)
    assert parsed.inputs["input_ids"].tolist() == plain.inputs["input_ids"].tolist()


def test_all_rows_are_kept_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lat_export.goldens.KEPT_BYTES_PER_CASE", 64)
    texts = written(tmp_path / "t.txt", TEXT)
    (some,) = make_golden(spec(tmp_path / "some", "fill-mask"), texts)
    (every,) = make_golden(spec(tmp_path / "all", "fill-mask"), texts, all_rows=True)
    assert some.rows is not None
    assert every.rows is None
    assert every.outputs["logits"].shape[1] == every.case.tokens > some.outputs["logits"].shape[1]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("t.txt", "", "no text in that file"),
        ("t.txt", "\n \n", "no text in that file"),
        ("t.txt", TEXT, 'needs a "question"'),
        ("t.jsonl", '{"text": "a", "question": "b"}\n{"text": 3}', '"text" is of another type'),
        ("t.jsonl", '{"text": "a", "question": "b"}\n{oops', "not a JSON object"),
        ("t.jsonl", '{"text": "a", "question": "b", "answer": "c"}', "not a JSON object with"),
        ("t.jsonl", '{"text": "a", "question": "b", "choices": ["c"]}', 'takes no "choices"'),
        ("t.jsonl", json.dumps({"text": TEXT * 30, "question": "b"}), "longer than the checkpoint's position table"),
    ],
)
def test_texts_that_are_refused(name: str, text: str, what: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what) as caught:
        given_cases(SIGNATURE, checkpoint, written(tmp_path / name, text), ())
    line = 2 if "\n{" in text else 1
    assert caught.value.where.get("case", f"{name} line {line}") == f"{name} line {line}"


def test_text_in_another_encoding(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        given_cases(SIGNATURE, checkpoint, tmp_path / "t.txt", ())


def test_text_without_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        given_cases(SIGNATURE, tmp_path, written(tmp_path / "q.jsonl", QUESTIONS), ())


def test_text_for_embeddings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no texts"):
        make_golden(spec(tmp_path / "out", inputs=("inputs_embeds",)), written(tmp_path / "q.jsonl", QUESTIONS))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"foo": np.ones(1)}, "no such input"),
        ({"input_ids": None}, "input_ids is missing"),
        ({"input_ids": arrays()["input_ids"].astype(np.int32)}, "wrong dtype"),
        ({"input_ids": arrays()["input_ids"][0]}, "wrong rank"),
        ({"input_ids": arrays()["input_ids"] + 1000}, "no meaning"),
        ({"attention_mask": np.ones((2, 8), np.int64)}, "size of sequence differs"),
    ],
)
def test_arrays_that_are_refused(change: dict[str, Any], what: str, checkpoint: Path, tmp_path: Path) -> None:
    given = {name: array for name, array in {**arrays(), **change}.items() if array is not None}
    np.savez(tmp_path / "call.npz", **given)
    with pytest.raises(InputError, match=what) as caught:
        given_cases(SIGNATURE, checkpoint, None, [tmp_path / "call.npz"])
    assert caught.value.where["case"] == "call.npz"


@pytest.mark.parametrize("kind", ["text", "npy", "cut", "objects", "missing"])
def test_files_that_are_no_npz(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "call.npz"
    np.savez(path, **arrays())
    if kind == "text":
        path.write_text("no archive")
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, arrays()["input_ids"])
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "objects":
        np.savez(path, input_ids=np.array([object()]))
    else:
        path.unlink()
    with pytest.raises(InputError, match=r"npz"):
        given_cases(SIGNATURE, checkpoint, None, [path])


def test_embeddings_with_nan(tmp_path: Path) -> None:
    embeds = np.zeros((2, 9, 32), np.float32)
    embeds[1, 4, 7] = np.nan
    rest = {name: array for name, array in arrays().items() if name != "input_ids"}
    np.savez(tmp_path / "call.npz", inputs_embeds=embeds, **rest)
    with pytest.raises(InputError, match="NaN or Inf"):
        make_golden(spec(tmp_path / "out", inputs=("inputs_embeds",)), None, (tmp_path / "call.npz",))


def test_files_of_one_name_give_cases_of_two(checkpoint: Path, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "call.npz" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        np.savez(path, **arrays())
    given = given_cases(SIGNATURE, checkpoint, None, paths)
    assert given is not None
    assert [case.source for case, _ in given.cases] == ["call.npz", "call.npz (2)"]
    with pytest.raises(InputError, match="given twice"):
        given_cases(SIGNATURE, checkpoint, None, [paths[0], paths[0]])


def test_another_tokenizer_is_another_origin(tmp_path: Path) -> None:
    """Texts hang on the tokenizer, so its digest is checked too; the case table does not."""
    checkpoint = Path(shutil.copytree(GOLDEN / "yoso" / "text-classification" / "checkpoint", tmp_path / "model"))
    make_golden(ModelSpec(str(checkpoint), "onnx", tmp_path / "texts"), written(tmp_path / "t.txt", TEXT))
    make_golden(ModelSpec(str(checkpoint), "onnx", tmp_path / "table"))
    assert check_goldens(tmp_path, str(checkpoint)) == [
        f"table: {len(Golden(GOLDEN / 'yoso' / 'text-classification'))} cases, its digests and its checkpoint's hold",
        "texts: 1 cases, its digests and its checkpoint's hold",
    ]
    (checkpoint / "tokenizer.json").write_text((checkpoint / "tokenizer.json").read_text() + "\n")
    check_goldens(tmp_path / "table", str(checkpoint))
    with pytest.raises(ParityError, match=r"tokenizer\.json") as caught:
        check_goldens(tmp_path / "texts", str(checkpoint))
    assert caught.value.hint == "make it again: lat-export golden make model --texts t.txt --out texts --force"


def test_force_replaces_golden_tensors_and_nothing_else(tmp_path: Path) -> None:
    task = Path(shutil.copytree(GOLDEN / "yoso" / "text-classification", tmp_path / "task"))
    texts = written(tmp_path / "t.txt", TEXT)
    with pytest.raises(InputError, match="replaces only what"):
        make_golden(spec(task, "text-classification", "yoso", force=True), texts)
    shutil.rmtree(task / "checkpoint")
    assert len(make_golden(spec(task, "text-classification", "yoso", force=True), texts)) == 1
