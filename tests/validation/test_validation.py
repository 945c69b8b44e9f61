"""The validator's own parts: comparison, cases, goldens; each check is shown to bite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN

from lat_export.errors import InputError, ParityError
from lat_export.goldens import check_goldens
from lat_export.pipeline import Exported, ParityLostError, export
from lat_export.recipes import make_goldens
from lat_export.revalidation import revalidate
from lat_export.stages import graph as graph_stage
from lat_export.targets.contract import BuildPlan, Runner, Subject
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec, Range, Signature
from lat_export.validation.cases import GLOBALS, PADDINGS, USUAL_CHOICES, Case, case_inputs, case_table
from lat_export.validation.check import Judge, check_subject
from lat_export.validation.compare import difference, not_comparable
from lat_export.validation.golden import FORMAT_VERSION, Golden, kept_rows, take_rows
from lat_export.validation.report import FAILED, Report, Row, SubjectReport

Export = Callable[..., Exported]


@pytest.fixture
def signature() -> Signature:
    return Golden(GOLDEN / "longformer" / "question-answering").signature


def test_difference_of_equal_arrays_is_zero() -> None:
    array = np.arange(6.0).reshape(2, 3)
    found = difference(array, array)
    assert (found.max_abs, found.relative_l2, found.finite) == (0.0, 0.0, True)
    assert found.cosine == pytest.approx(1.0)


def test_difference_by_hand() -> None:
    found = difference(np.array([3.0, 4.0]), np.array([3.0, 0.0]))
    assert found.max_abs == 4.0
    assert found.relative_l2 == pytest.approx(4 / 3)
    assert found.cosine == pytest.approx(0.6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_never_close(bad: float) -> None:
    assert not difference(np.array([1.0, bad]), np.array([1.0, bad])).finite


def test_zero_reference_takes_the_absolute_error() -> None:
    assert difference(np.array([1e-3]), np.zeros(1)).relative_l2 == pytest.approx(1e-3)


def test_small_outputs_near_zero_are_judged_by_their_usual_size() -> None:
    """A logit that cancels to 1e-9 is no loss of parity where such logits are usually 1."""
    assert difference(np.array([2e-9]), np.array([1e-9])).relative_l2 == pytest.approx(1.0)
    assert difference(np.array([2e-9]), np.array([1e-9]), scale=1.0).relative_l2 == pytest.approx(1e-9)
    assert difference(np.array([3.0]), np.array([2.0]), scale=1.0).relative_l2 == pytest.approx(0.5)


def test_report_is_json_whatever_it_found() -> None:
    row = Row("case", "logits", **vars(not_comparable(nan=1)), tolerance=1e-5, verdict=FAILED)
    text = json.dumps(Report((SubjectReport("x", (row,)),)).to_json(), allow_nan=False)
    assert json.loads(text)["subjects"][0]["rows"][0]["max_abs"] is None


def test_other_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="shape"):
        difference(np.zeros(2), np.zeros(3))


def test_case_table_meets_every_pattern_and_boundary(signature: Signature) -> None:
    cases = case_table(signature)
    assert {case.padding for case in cases} == set(PADDINGS)
    assert {case.global_tokens for case in cases} == set(GLOBALS)
    lengths = {case.tokens for case in cases}
    assert {1, signature.max_tokens, signature.pattern_length, *signature.boundary_lengths} == lengths
    assert any(n % w for n in lengths for w in (4, 16, 32))


def test_case_table_stays_within_the_range(signature: Signature) -> None:
    lengths = {case.tokens for case in case_table(signature, {"sequence": Range(16, 20, 40)})}
    assert {16, 20, 40} <= lengths
    assert all(16 <= n <= 40 for n in lengths)


def test_case_inputs_are_what_the_case_says(signature: Signature) -> None:
    inputs = case_inputs(signature, Case(3, 20, "left", "scattered"))
    keep, marked = inputs["attention_mask"], inputs["global_attention_mask"]
    assert (inputs["input_ids"] == signature.pad_token_id).tolist() == (keep == 0).tolist()
    assert len({row.sum() for row in keep}) == 3  # padded by different amounts
    assert (keep[:, -1] == 1).all()
    assert len({tuple(row) for row in marked}) == 3  # globals differ from row to row
    assert (marked > keep).any()  # padding that is marked stays padding
    again = case_inputs(signature, Case(3, 20, "left", "scattered"))
    assert all((inputs[name] == again[name]).all() for name in inputs)


def test_multiple_choice_has_a_choices_axis() -> None:
    golden = Golden(GOLDEN / "longformer" / "multiple-choice")
    shapes = {case.inputs["input_ids"].shape[1] for case in golden}
    assert shapes == {USUAL_CHOICES}


def test_long_outputs_keep_evenly_spread_rows(signature: Signature) -> None:
    outputs = {spec.name: np.zeros((1, 4096), np.float32) for spec in signature.outputs}
    rows = kept_rows(outputs, signature, kept_bytes=4096)
    assert rows is not None
    assert (rows[0], rows[-1]) == (0, 4095)
    assert len(rows) == 512  # two outputs of 4 bytes a token
    assert take_rows(outputs, rows, signature)["start_logits"].shape == (1, 512)
    assert kept_rows(outputs, signature, kept_bytes=2 * 4096 * 4) is None


def test_export_that_computes_something_else_fails(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body with the window one too wide, planted where the graph is made: no bundle, and the case is named."""
    from lat_export.ops import OPS
    from lat_export.ops.contract import Op

    real = OPS["BandedWindowAttention"]

    class Wrong(Op):
        def function(self, bounds=None):  # type: ignore[no-untyped-def]
            made = real.function(bounds)
            for node in list(made):
                if node.op_type == "LessOrEqual":
                    node.op_type = "Less"
            return made

    planted = Wrong(**{name: getattr(real, name) for name in ("name", "inputs", "attributes", "reference", "body")})
    monkeypatch.setitem(graph_stage.OPS, "BandedWindowAttention", planted)
    with pytest.raises(ParityLostError) as caught:
        export(ModelSpec(str(checkpoint), "onnx", tmp_path / "out"))
    assert caught.value.exit_code == 1
    assert "B=" in str(caught.value)
    assert caught.value.report.parity_lost
    assert list(tmp_path.iterdir()) == []


def test_goldens_are_the_ones_their_recipe_makes(tmp_path: Path) -> None:
    """Made again from the recipe, weights are the same bits and tensors agree."""
    recipe = json.loads((GOLDEN / "longformer" / "recipe.json").read_text())
    recipe["tasks"] = {"text-classification": recipe["tasks"]["text-classification"]}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    make_goldens(tmp_path, tmp_path)
    made, kept = tmp_path / "text-classification", GOLDEN / "longformer" / "text-classification"
    weights = "checkpoint/model.safetensors"
    assert (made / weights).read_bytes() == (kept / weights).read_bytes()
    for again, before in zip(Golden(made), Golden(kept), strict=True):
        assert difference(again.outputs["logits"], before.outputs["logits"]).relative_l2 <= 1e-5


def test_goldens_fit_their_budget() -> None:
    for family in GOLDEN.iterdir():
        assert sum(path.stat().st_size for path in family.rglob("*") if path.is_file()) <= 3 * 2**20


def test_golden_check_finds_a_changed_byte(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "longformer" / "text-classification", tmp_path / "task")
    assert len(check_goldens(tmp_path)) == 1
    tensors = tmp_path / "task" / "golden.safetensors"
    changed = bytearray(tensors.read_bytes())
    changed[-1] ^= 1
    tensors.write_bytes(changed)
    with pytest.raises(ParityError, match="changed after it was written") as caught:
        check_goldens(tmp_path)
    assert caught.value.hint == "make it again: lat-export golden make golden/longformer"


def test_golden_check_finds_a_changed_manifest(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "yoso" / "text-classification", tmp_path / "task")
    manifest = tmp_path / "task" / "golden.json"
    manifest.write_text(
        manifest.read_text().replace('"lat-export reference"', '"transformers"', 1).replace("none", "no")
    )
    with pytest.raises(ParityError, match=r"golden\.json was changed after it was written"):
        check_goldens(tmp_path)


def test_golden_check_finds_another_checkpoint(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "longformer" / "text-classification", tmp_path / "task")
    weights = tmp_path / "task" / "checkpoint" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ParityError, match="not the one that its golden tensors were made from") as caught:
        check_goldens(tmp_path)
    assert caught.value.hint == "make it again: lat-export golden make golden/longformer"
    assert "model.safetensors" in str(caught.value.got)
    assert "config.json" not in str(caught.value.got)


def test_golden_of_another_format_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "longformer" / "text-classification", tmp_path / "task")
    manifest = tmp_path / "task" / "golden.json"
    manifest.write_text(manifest.read_text().replace(f'"format": {FORMAT_VERSION}', '"format": 99'))
    with pytest.raises(InputError, match="another format version") as caught:
        Golden(tmp_path / "task")
    assert caught.value.hint == "make it again: lat-export golden make golden/longformer"


def test_bundle_without_golden_cannot_be_validated(checkpoint: Path, tmp_path: Path) -> None:
    export(ModelSpec(str(checkpoint), "onnx", tmp_path / "out", validate=False))
    with pytest.raises(InputError, match="no golden tensors"):
        revalidate(tmp_path / "out")


def test_a_case_on_which_the_artifact_dies_fails(exported: Callable[..., Exported]) -> None:
    """And the others are still judged: an engine may have a limit that nobody knew."""
    bundle = exported("text-classification", family="yoso").bundle
    golden = Golden(bundle.folder)

    @contextmanager
    def limited() -> Iterator[Runner]:
        with open_runner(bundle.folder / "model.onnx", golden.signature) as run:

            def run_short(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                if inputs["input_ids"].shape[1] > 53:
                    raise RuntimeError("out of workspace")
                return run(inputs)

            yield run_short

    report = check_subject(Subject("limited", limited, BuildPlan({})), golden, golden.signature, Judge(repeat=2))
    assert report.verdict == FAILED
    failed = [row for row in report.rows if row.verdict == FAILED]
    assert {row.remark for row in failed} == {"the run failed: RuntimeError: out of workspace"}
    assert 0 < len(failed) < len(report.rows)
    assert report.left_out == 0
    assert report.repeated is not None
    assert report.repeated.changed == ()
