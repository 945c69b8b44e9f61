"""`run --input`: every answer is that of the row alone, whichever rows shared its batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN
from documents.corpus import read_lines, request, rows, write_lines, write_table

from lat_export.batching import padding_changes_answers
from lat_export.documents import Job, answering, run_documents
from lat_export.documents.answering import limits_of, open_answering
from lat_export.documents.rows import Fields, Row, read_row
from lat_export.errors import InputError
from lat_export.inference import front_of, open_model
from lat_export.pipeline import export
from lat_export.stages.bundle import Bundle, read_bundle
from lat_export.tasks import TASKS
from lat_export.types import ModelSpec, Options

Made = Callable[..., Bundle]
# float32 of the same graph: sums of a larger matrix product run in another order.
TOLERANCE = 2e-5
# As many landmarks as segments are long: transformers' sign for exact attention.
EXACT = {"segment_means_seq_len": 8}
A_FACTOR_A_HEAD = {"inv_coeff_init_option": True}
COUNT = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """`made(family, task, config, **fields of ModelSpec)`: a bundle of a golden checkpoint, exported once.

    `config` changes values of config.json.
    """
    folder, done = tmp_path_factory.mktemp("bundles"), dict[str, Bundle]()

    def get(family: str, task: str, config: dict[str, Any] | None = None, **fields: Any) -> Bundle:
        key = f"{family} {task} {config} {fields}"
        if key not in done:
            out = folder / str(len(done))
            checkpoint = GOLDEN / family / task / "checkpoint"
            if config:
                checkpoint = Path(shutil.copytree(checkpoint, folder / f"checkpoint {len(done)}"))
                known = json.loads((checkpoint / "config.json").read_text())
                (checkpoint / "config.json").write_text(json.dumps({**known, **config}))
            export(ModelSpec(str(checkpoint), "onnx", out, validate=False, **fields))
            done[key] = read_bundle(out)
        return done[key]

    return get


def numbers_and_rest(found: Any) -> tuple[list[float], list[Any]]:
    """The scores and features of an answer in order, and all else."""
    if isinstance(found, float):
        return [found], []
    if isinstance(found, dict):
        return numbers_and_rest([found[key] for key in sorted(found)])
    if isinstance(found, list):
        parts = [numbers_and_rest(part) for part in found]
        return [n for numbers, _ in parts for n in numbers], [r for _, rest in parts for r in rest]
    return [], [found]


def alone(bundle: Bundle, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    front = front_of(bundle)
    with open_model(bundle) as run:
        return [front.answer(request(row), run) for row in found]


def agree(bundle: Bundle, found: list[dict[str, Any]], tmp_path: Path) -> None:
    job = Job(bundle.folder, write_lines(tmp_path / "in.jsonl", found), tmp_path / "out.jsonl", kept=("id",))
    assert run_documents(job).answered == len(found)
    written = read_lines(job.output)
    assert [row.pop("row") for row in written] == list(range(1, len(found) + 1))
    assert [row.pop("id") for row in written] == [row["id"] for row in found]
    for given, wanted in zip(written, alone(bundle, found), strict=True):
        numbers, rest = numbers_and_rest(given)
        wanted_numbers, wanted_rest = numbers_and_rest(wanted)
        assert rest == wanted_rest
        np.testing.assert_allclose(numbers, wanted_numbers, rtol=TOLERANCE, atol=TOLERANCE)


def batch_sizes(bundle: Bundle, found: list[dict[str, Any]], **most: int) -> list[int]:
    fields = Fields(bundle.signature.task)
    read = [read_row(number, row, fields) for number, row in enumerate(found, 1)]
    with open_answering(bundle, limits_of(bundle, **most)) as opened:
        return [len(batch) for batch in opened.answers(read)]


@pytest.mark.parametrize("task", TASKS)
def test_answers_of_a_batch_are_those_of_each_row_alone(task: str, made: Made, tmp_path: Path) -> None:
    bundle, found = made("longformer", task), rows(task, COUNT)
    agree(bundle, found, tmp_path)
    assert max(batch_sizes(bundle, found)) > 2


@pytest.mark.parametrize("task", TASKS)
def test_a_table_has_the_answers_of_the_lines(task: str, made: Made, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: the extra [parquet]")
    bundle, found = made("longformer", task), rows(task, COUNT)
    lines = Job(bundle.folder, write_lines(tmp_path / "in.jsonl", found), tmp_path / "out.jsonl", kept=("id", "year"))
    run_documents(lines)
    table = replace(lines, input=write_table(tmp_path / "in.parquet", found), output=tmp_path / "out.parquet")
    assert run_documents(table).answered == COUNT
    written = parquet.read_table(table.output).to_pylist()
    wanted = [{**row, "year": str(row["year"])} for row in read_lines(lines.output)]
    assert [numbers_and_rest(row)[1] for row in written] == [numbers_and_rest(row)[1] for row in wanted]
    for given, line in zip(written, wanted, strict=True):
        # Features are float32 in a table, as the model gives them.
        np.testing.assert_allclose(numbers_and_rest(given)[0], numbers_and_rest(line)[0], rtol=1e-7)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("family", "config", "task"),
    [
        ("yoso", None, "text-classification"),
        ("yoso", None, "multiple-choice"),
        ("nystromformer", None, "multiple-choice"),
        ("nystromformer", EXACT, "text-classification"),
        ("nystromformer", A_FACTOR_A_HEAD, "text-classification"),
    ],
)
def test_families_in_which_padding_or_a_neighbour_would_be_seen(
    family: str, config: dict[str, Any] | None, task: str, made: Made, tmp_path: Path
) -> None:
    bundle, found = made(family, task, config), rows(task, COUNT)
    agree(bundle, found, tmp_path)
    assert (max(batch_sizes(bundle, found)) > 1) == (family == "yoso" or config is not None)


def test_rows_of_landmark_nystroemformer_share_no_batch(made: Made, tmp_path: Path) -> None:
    """Its pseudo-inverse starts from one factor for the whole batch."""
    bundle, found = made("nystromformer", "text-classification"), rows("text-classification", COUNT)
    assert set(batch_sizes(bundle, found)) == {1}
    job = Job(bundle.folder, write_lines(tmp_path / "in.jsonl", found), tmp_path / "out.jsonl", max_batch=4)
    with pytest.raises(InputError, match="cannot share a batch"):
        run_documents(job)
    assert list(tmp_path.iterdir()) == [job.input]


def test_rows_of_yoso_share_a_batch_only_with_their_like(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers gives it no mask of padding; where all lengths were joined, this fails."""
    bundle, found = made("yoso", "text-classification"), rows("text-classification", COUNT)
    assert 1 < max(batch_sizes(bundle, found)) < COUNT
    seen = joined_answers(bundle, found)
    wanted = [score_of(answer) for answer in alone(bundle, found)]
    np.testing.assert_allclose([seen[n] for n in sorted(seen)], wanted, rtol=TOLERANCE, atol=TOLERANCE)
    monkeypatch.setattr(answering, "padding_changes_answers", lambda _: False)
    careless = joined_answers(bundle, found)
    assert np.abs(np.subtract([careless[n] for n in sorted(careless)], wanted)).max() > 100 * TOLERANCE


def joined_answers(bundle: Bundle, found: list[dict[str, Any]]) -> dict[int, float]:
    """The best score of every row by its number."""
    fields = Fields(bundle.signature.task)
    with open_answering(bundle, limits_of(bundle)) as opened:
        read = [read_row(number, row, fields) for number, row in enumerate(found, 1)]
        lines = [line for batch in opened.answers(read) for line in batch]
    return {line.number: score_of(json.loads(line.data)) for line in lines}


def score_of(answer: dict[str, Any]) -> float:
    return float(answer["labels"][0]["score"])


@pytest.mark.parametrize(
    ("family", "config", "semantics", "changes"),
    [
        ("longformer", None, "hf", False),
        ("yoso", None, "hf", True),
        ("yoso", None, "paper", False),
        ("nystromformer", None, "paper", True),
        ("nystromformer", EXACT, "hf", True),
        ("nystromformer", EXACT, "paper", False),
    ],
)
def test_whether_padding_changes_an_answer_is_as_the_table_says(
    family: str, config: dict[str, Any] | None, semantics: str, changes: bool, made: Made
) -> None:
    options = {} if semantics == "hf" else {"options": Options(semantics=semantics)}
    bundle = made(family, "text-classification", config, **options)
    assert padding_changes_answers(bundle) == changes
    front = front_of(bundle)
    asked = front.ask(request(rows("text-classification", 1)[0]))
    inputs = front.inputs([asked])
    longer = {
        name: np.concatenate([array, np.full((1, 16), bundle.signature.pad_token_id * (name == "input_ids"))], 1)
        for name, array in inputs.items()
    }
    with open_model(bundle) as run:
        here, there = (run(arrays)["logits"][0] for arrays in (inputs, longer))
    error = np.abs(here - there).max() / np.abs(here).max()
    assert error > 1e-3 if changes else error < TOLERANCE


def test_outputs_that_count_the_globals_of_a_batch_keep_rows_apart(made: Made) -> None:
    bundle = made("longformer", "question-answering", outputs=("attentions",))
    assert set(batch_sizes(bundle, rows("question-answering", 6))) == {1}


def test_batches_keep_to_their_limits(made: Made) -> None:
    bundle, found = made("longformer", "text-classification"), rows("text-classification", COUNT)
    assert max(batch_sizes(bundle, found, most_rows=3)) == 3
    fields = Fields(bundle.signature.task)
    read = [row for n, one in enumerate(found, 1) if isinstance(row := read_row(n, one, fields), Row)]
    limits = limits_of(bundle, most_tokens=48)
    with open_answering(bundle, limits) as opened:
        tokenised, _ = opened.tokenised(read)
    found_batches = list(answering.batches(tokenised, limits))
    assert sorted(one.row.number for batch in found_batches for one in batch) == list(range(1, COUNT + 1))
    assert any(len(batch) > 1 for batch in found_batches)
    for batch in found_batches:
        lengths = [one.tokens for one in batch]
        assert len(batch) == 1 or max(lengths) * len(batch) <= 48
        assert max(lengths) <= answering.SIMILAR * min(lengths)
