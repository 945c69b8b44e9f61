"""Engines and ONNX files that came from elsewhere, against golden tensors: other names, dtypes, fixed sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from conftest import GOLDEN

from lat_export.errors import InputError
from lat_export.pipeline import Exported
from lat_export.revalidation import validate_artifact
from lat_export.validation.check import Judge
from lat_export.validation.report import FAILED, NOT_RUN, PASSED, Report

Export = Callable[..., Exported]
NAMES = {"input_ids": "ids", "attention_mask": "mask", "logits": "scores"}
TASK = "text-classification"


@pytest.fixture
def folder(exported: Export) -> Path:
    return exported(TASK, family="yoso").bundle.folder


@pytest.fixture
def elsewhere(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """`elsewhere(change)`: the bundle's model, other names for its tensors, and `change` done to it."""

    def make(change: Callable[[ir.Model], None] = lambda _: None) -> Path:
        model = ir.load(folder / "model.onnx")
        for value in (*model.graph.inputs, *model.graph.outputs):
            value.name = NAMES[str(value.name)]
        change(model)
        ir.save(model, tmp_path / "elsewhere.onnx")
        return tmp_path / "elsewhere.onnx"

    return make


def names_file(tmp_path: Path, names: Any) -> Path:
    path = tmp_path / "names.json"
    path.write_text(json.dumps(names))
    return path


def validated(engine: Path, tmp_path: Path, names: Any = NAMES, golden: Path | None = None, **judge: Any) -> Report:
    file = None if names is None else names_file(tmp_path, names)
    return validate_artifact(engine, golden or GOLDEN / "yoso" / TASK, file, Judge(**judge))


def int32_inputs(model: ir.Model) -> None:
    """As engines have them: ids and mask in 32 bits."""
    for value in list(model.graph.inputs):
        wide = ir.node("Cast", [value], {"to": ir.DataType.INT64})
        for node, index in list(value.uses()):
            node.replace_input_with(index, wide.outputs[0])
        wide.replace_input_with(0, value)
        model.graph.insert_before(model.graph[0], wide)
        value.dtype = ir.DataType.INT32


def half_output(model: ir.Model) -> None:
    output = model.graph.outputs[0]
    half = ir.node("Cast", [output], {"to": ir.DataType.FLOAT16})
    output.name, half.outputs[0].name = "wide", "scores"
    half.outputs[0].dtype, half.outputs[0].shape = ir.DataType.FLOAT16, output.shape
    model.graph.append(half)
    model.graph.outputs[0] = half.outputs[0]


def fixed_size(model: ir.Model) -> None:
    for value in model.graph.inputs:
        value.shape = ir.Shape([2, 53])


def test_other_names(elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    report = validated(elsewhere(), tmp_path)
    assert report.verdict == PASSED
    assert {row.output for row in report.subjects[0].rows} == {"logits"}
    assert report.provenance.files.keys() == {"elsewhere.onnx"}


def test_a_bundles_folder_gives_golden_tensors_too(folder: Path, tmp_path: Path) -> None:
    assert validated(folder / "model.onnx", tmp_path, names=None, golden=folder).verdict == PASSED


def test_32_bit_inputs(elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    assert validated(elsewhere(int32_inputs), tmp_path).verdict == PASSED


def test_half_precision_is_judged_by_its_own_tolerance(elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    engine = elsewhere(half_output)
    assert validated(engine, tmp_path).verdict == FAILED
    report = validated(engine, tmp_path, precision="fp16")
    assert report.verdict == PASSED
    assert max(row.max_ulp for row in report.subjects[0].rows) <= 1.0  # of half precision: one rounding


def test_fixed_sizes_leave_cases_out(elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    report = validated(elsewhere(fixed_size), tmp_path).subjects[0]
    assert report.verdict == PASSED
    assert all("B=2 N=53" in row.case for row in report.rows)
    assert report.left_out > 0


def test_a_size_that_no_case_has_is_not_run(elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    def odd_size(model: ir.Model) -> None:
        for value in model.graph.inputs:
            value.shape = ir.Shape([7, 7])

    report = validated(elsewhere(odd_size), tmp_path)
    assert report.verdict == NOT_RUN
    assert "no case lies within" in report.subjects[0].remark


def test_a_wrong_engine_fails(elsewhere: Callable[..., Path], tmp_path: Path) -> None:
    def shorter_codes(model: ir.Model) -> None:
        node = next(node for node in model.graph if node.domain == "lat")
        node.attributes["hash_code_len"] = ir.AttrInt64("hash_code_len", 2)

    assert validated(elsewhere(shorter_codes), tmp_path).verdict == FAILED


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, "calls its inputs otherwise"),
        ({**NAMES, "input_ids": "tokens"}, "calls its inputs otherwise"),
        ({**NAMES, "logits": "logits"}, "calls its outputs otherwise"),
        ({**NAMES, "attention_mask": None}, "calls its inputs otherwise"),
        ({**NAMES, "ids": "ids"}, "names that the golden tensors do not have"),
        ({**NAMES, "logits": None}, "no output is left"),
        (["input_ids"], "no JSON object of strings"),
        ({**NAMES, "logits": 3}, "no JSON object of strings"),
    ],
)
def test_names_that_do_not_fit_are_named(
    names: Any, words: str, elsewhere: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        validated(elsewhere(), tmp_path, names=names)


def test_an_engine_needs_golden_tensors(elsewhere: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no golden tensors"):
        validate_artifact(elsewhere(), None, None, Judge())


def test_a_plan_without_a_gpu_is_not_run(tmp_path: Path) -> None:
    """Never passed: the report says why."""
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"ftrt")
    report = validated(plan, tmp_path, names=None)
    assert report.verdict == NOT_RUN
    assert report.subjects[0].remark.startswith("not run: ")
