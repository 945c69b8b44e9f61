"""The two TensorRT targets, on a machine that may have neither the libraries nor a GPU."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from conftest import FAMILY_TASKS

from lat_export.environment import gpu_count
from lat_export.errors import InputError, LatExportError, MissingError, ShapeError
from lat_export.pipeline import Exported, export
from lat_export.revalidation import revalidate
from lat_export.targets import TARGETS, BuildPlan, available_target, tensorrt_run
from lat_export.targets import tensorrt_target as shared
from lat_export.targets.tensorrt_run import open_runner
from lat_export.types import ModelSpec, Range
from lat_export.validation.report import NOT_RUN, PASSED

Export = Callable[..., Exported]
RTX = TARGETS["trt-rtx"]
pytestmark = pytest.mark.skipif(RTX.missing() is not None, reason=f"TensorRT-RTX is missing: {RTX.missing()}")
no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU: the engine runs")


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_every_task_becomes_an_engine(family: str, task: str, exported: Export) -> None:
    made = exported(task, "trt-rtx", family)
    engine = made.bundle.folder / "model.trt-rtx.engine"
    assert engine.stat().st_size > 100_000
    build = made.bundle.manifest["build"]
    assert [tensor["name"] for tensor in build["inputs"]] == [spec.name for spec in made.bundle.signature.inputs]
    assert [tensor["name"] for tensor in build["outputs"]] == [spec.name for spec in made.bundle.signature.outputs]
    assert all(
        set(tensor["shape"][: len(spec.dims)]) <= {-1, *spec.dims}
        for tensor, spec in zip(build["outputs"], made.bundle.signature.outputs, strict=True)
    )
    assert set(made.bundle.forms.values()) == {"body"}


@no_gpu
def test_engine_that_did_not_run_is_never_called_passed(exported: Export) -> None:
    made = exported("text-classification", "trt-rtx")
    for report in (made.report, revalidate(made.bundle.folder)):
        assert report is not None
        portable, lowered, engine = report.subjects
        assert (portable.verdict, lowered.verdict, engine.verdict) == (PASSED, PASSED, NOT_RUN)
        assert engine.remark == "built, not run: no GPU"
    assert made.bundle.manifest["validated"][engine.subject] == NOT_RUN


@no_gpu
def test_opening_an_engine_without_a_gpu_names_the_lack(exported: Export) -> None:
    bundle = exported("text-classification", "trt-rtx").bundle
    with (
        pytest.raises(match="no GPU"),
        open_runner(bundle.folder / "model.trt-rtx.engine", "tensorrt_rtx", bundle.signature, bundle.plan),
    ):
        pass


@no_gpu
def test_engine_that_a_gpu_cannot_load_is_not_run(exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that the engine was not built for: here the driver is missing, with the same kind of error."""
    bundle = exported("text-classification", "trt-rtx").bundle  # first: other tests have the same one
    monkeypatch.setattr(tensorrt_run, "gpu_count", lambda: 1)
    report = revalidate(bundle.folder)
    assert report.subjects[2].verdict == NOT_RUN
    assert "built, not run: this machine cannot load the engine" in report.subjects[2].remark


def test_other_lowering_than_the_engine_was_built_from_is_not_run(exported: Export, tmp_path: Path) -> None:
    bundle = exported("text-classification", "trt-rtx").bundle
    plan = replace(bundle.plan, graph_sha256="0" * 64)
    lowered = RTX.subjects(bundle.folder, bundle.signature, plan, tmp_path)[1]
    with pytest.raises(MissingError, match="another graph than the engine was built from"):
        lowered.open()


def test_profile_that_no_engine_can_run_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most 3840 global tokens"):
        export(ModelSpec(str(checkpoint), "trt-rtx", tmp_path / "out", max_global=4000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_engine_matches_its_golden_on_a_gpu(exported: Export) -> None:
    report = revalidate(exported("question-answering", "trt-rtx").bundle.folder)
    assert [subject.verdict for subject in report.subjects] == [PASSED] * 3


def test_lowered_graph_has_no_shape_that_depends_on_data(exported: Export, tmp_path: Path) -> None:
    """TensorRT-RTX 1.7 segfaults on a TopK whose K is computed from data, and has no NonZero."""
    bundle = exported("question-answering", "trt-rtx").bundle
    graph = ir.load(RTX.lower(bundle.folder / "model.onnx", tmp_path, bundle.plan)).graph
    ops = {node.op_type for node in graph}
    assert not ops & {"NonZero", "If", "Loop", "ReduceMax"}
    assert not [node for node in graph if node.domain == "lat"]


def test_layers_share_what_hangs_on_the_mask_alone(exported: Export, tmp_path: Path) -> None:
    """Three layers with three windows: the globals are looked for once."""
    bundle = exported("question-answering", "trt-rtx").bundle
    graph = ir.load(RTX.lower(bundle.folder / "model.onnx", tmp_path, bundle.plan)).graph
    assert sum(node.op_type == "TopK" for node in graph) == 1


def test_cases_outside_of_the_profile_are_counted(checkpoint: Path, tmp_path: Path) -> None:
    spec = ModelSpec(
        str(checkpoint), "trt-rtx", tmp_path / "out", batch=Range(1, 1, 1), sequence=Range(16, 64, 128), max_global=2
    )
    made = export(spec)
    assert made.report is not None
    lowered = made.report.subjects[1]
    assert lowered.verdict == PASSED
    assert lowered.left_out > 0
    assert all("B=1 " in row.case for row in lowered.rows)
    assert len({row.case for row in lowered.rows}) + lowered.left_out == len(
        {row.case for row in made.report.subjects[0].rows}
    )
    sizes = {"batch": Range(1, 1, 1), "sequence": Range(16, 64, 128)}
    assert made.bundle.plan == BuildPlan(sizes, 2, made.bundle.plan.graph_sha256)


def test_more_globals_than_the_bound_are_refused(exported: Export) -> None:
    signature = exported("text-classification", "trt-rtx").bundle.signature
    ids = np.full((1, 9), 5)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "global_attention_mask": np.ones_like(ids)}
    signature.check_inputs(inputs)
    with pytest.raises(ShapeError, match="more global tokens") as caught:
        signature.check_inputs(inputs, max_global=signature.max_global)
    assert "--max-global 9" in str(caught.value)
    # A global mark on padding is no global token.
    inputs["attention_mask"] = np.eye(1, 9, dtype=np.int64)
    signature.check_inputs(inputs, max_global=signature.max_global)


def test_trt_falls_back_to_rtx_and_says_so() -> None:
    if TARGETS["trt"].missing() is None:
        pytest.skip("TensorRT is installed here: there is nothing to fall back from")
    target, notice = available_target("trt")
    assert target.name == "trt-rtx"
    assert notice == "TensorRT is not installed: building a TensorRT-RTX engine instead"


def test_missing_both_names_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("trt", "trt-rtx"):
        monkeypatch.setattr(TARGETS[name], "module", "no_such_module")
    with pytest.raises(MissingError) as caught:
        available_target("trt")
    assert caught.value.exit_code == 3
    assert "TensorRT: pip install" in str(caught.value)
    assert "TensorRT-RTX: pip install tensorrt-rtx-cu13" in str(caught.value)


def test_package_that_does_not_load_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyPI's tensorrt_cu13_bindings without its libraries is such a package."""
    (tmp_path / "broken_bindings.py").write_text("raise ImportError('libnvinfer.so.11: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(TARGETS["trt"], "module", "broken_bindings")
    lack = TARGETS["trt"].missing()
    assert lack is not None
    assert "libnvinfer.so.11: not found" in lack


def test_crash_of_the_builder_is_an_error_of_ours(
    exported: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = exported("text-classification", "trt-rtx").bundle
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(crashing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(shared.sys, "executable", str(crashing))
    with pytest.raises(InputError, match="crashed while it built the engine") as caught:
        RTX.build(bundle.folder / "model.onnx", tmp_path, bundle.signature, bundle.plan)
    assert caught.value.got == "SIGSEGV"
    assert sys.executable == str(crashing)


def test_graph_that_the_parser_refuses_names_the_node(exported: Export, tmp_path: Path) -> None:
    bundle = exported("text-classification", "trt-rtx").bundle
    model = ir.load(RTX.lower(bundle.folder / "model.onnx", tmp_path, bundle.plan))
    victim = next(node for node in model.graph if node.op_type == "Gelu")
    victim.op_type, victim.name = "NoSuchOp", "the_victim"
    broken = tmp_path / "broken.onnx"
    ir.save(model, broken)
    with pytest.raises(LatExportError, match="the parser knows no such op") as caught:
        RTX.build(broken, tmp_path, bundle.signature, bundle.plan)
    assert caught.value.where["node"] == "the_victim"
    assert not (tmp_path / "model.trt-rtx.engine").exists()
