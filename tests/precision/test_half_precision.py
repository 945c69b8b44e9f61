"""`--precision fp16|bf16` in the graph and at every target: element types, casts, weights, what the bundle says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from conftest import GOLDEN, ROOT
from ops.single_op_model import single_op_model
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from lat_export import onnx_file
from lat_export.dry_run import DryRun
from lat_export.dry_run.findings import ERROR
from lat_export.errors import InputError, ParityError
from lat_export.native import ort_library
from lat_export.ops import DOMAIN, OPS, StaticBounds
from lat_export.pipeline import Exported, export
from lat_export.remake import export_command, golden_command
from lat_export.revalidation import revalidate
from lat_export.stages.overflow import NEAR
from lat_export.targets.half_on_cpu import compute_in_float32
from lat_export.targets.largest_values import FLOAT16_OVERFLOW, largest_values
from lat_export.targets.lowering import bounded, inline
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec
from lat_export.validation.golden import Golden
from lat_export.validation.report import PASSED
from lat_export.validation.tolerance import RELATIVE_L2

HALVES = ("fp16", "bf16")
FAMILIES = ("longformer", "nystromformer", "yoso")
TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
# A golden checkpoint of each family that bfloat16 does not move out of its band.
TASK = "token-classification"
Get = Callable[..., Exported]


def worst(done: Exported) -> float:
    assert done.report is not None
    return max(row.relative_l2 for subject in done.report.subjects for row in subject.rows)


def graph_of(done: Exported) -> ir.Graph:
    return ir.load(done.bundle.folder / "model.onnx").graph


@pytest.mark.parametrize("target", ["ort", "trt-rtx"])
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_target_takes_half_precision(family: str, precision: str, target: str, exported: Get) -> None:
    done = exported(TASK, target, family, precision)
    assert done.report is not None
    assert not list(done.report.failures())
    assert RELATIVE_L2["fp32"] < worst(done) <= RELATIVE_L2[precision]
    ran = {subject.subject: subject.verdict for subject in done.report.subjects if subject.rows}
    assert set(ran.values()) == {PASSED}
    assert len(ran) == (2 + (ort_library() is not None) if target == "ort" else 2)
    assert done.report.provenance.precision == done.bundle.manifest["precision"] == precision
    # A judge of another precision does not count: the bundle's own does.
    again = revalidate(done.bundle.folder)
    assert not list(again.failures())
    assert {row.tolerance for subject in again.subjects for row in subject.rows} == {RELATIVE_L2[precision]}
    if target == "trt-rtx":
        assert done.bundle.manifest["build"]["outputs"][0]["dtype"] == "FLOAT"
        assert (done.bundle.folder / "model.trt-rtx.engine").stat().st_size > 0


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_bodies_are_right_in_half_precision(family: str, precision: str, exported: Get, tmp_path: Path) -> None:
    """With bodies in place of nodes, dynamic and as engines get them, the model keeps ONNX's rules of types."""
    model = exported(TASK, "ort", family, precision).bundle.folder / "model.onnx"
    for bounds in (StaticBounds(), StaticBounds(max_global=4)):
        program = bounded(model, bounds)
        inline(program)
        ir.save(program, tmp_path / "inlined.onnx")
        onnx.checker.check_model(tmp_path / "inlined.onnx", full_check=True)


@pytest.mark.parametrize("op", sorted(OPS))
@pytest.mark.parametrize("precision", HALVES)
def test_every_body_holds_for_half_precision(op: str, precision: str, tmp_path: Path) -> None:
    """Also of ops that the policy keeps in float32: a body holds for any element type of its contract."""
    attributes = {
        attribute.name: 1.0 if attribute.kind is float else max(1, int(attribute.minimum))
        for attribute in OPS[op].attributes
    }
    program = single_op_model(op, attributes, dtype=TYPES[precision])
    inline(program)
    ir.save(program, tmp_path / "inlined.onnx")
    onnx.checker.check_model(tmp_path / "inlined.onnx", full_check=True)


def sampled(folder: Path) -> Path:
    checkpoint = Path(shutil.copytree(GOLDEN / "yoso" / "fill-mask" / "checkpoint", folder / "checkpoint"))
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "use_expectation": False, "num_hash": 8}))
    return checkpoint


@pytest.mark.parametrize("precision", HALVES)
def test_hashing_stays_in_float32(precision: str, tmp_path: Path) -> None:
    checkpoint = sampled(tmp_path)
    done = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "bundle", precision=precision))
    nodes = [node for node in graph_of(done) if node.op_type == "LshCumulation"]
    for node in nodes:
        assert {value.dtype for value in (*node.inputs, *node.outputs)} <= {TYPES["fp32"], ir.DataType.INT32}
    assert done.report is not None
    assert done.report.verdict == PASSED
    assert [node.verdict for node in done.report.subjects[0].sampled] == [PASSED] * len(nodes)
    # Of a half-precision export codes may flip further; what PyTorch computes is the same.
    rows = {row.remark for row in done.report.subjects[0].rows}
    assert rows <= {"", "hash codes may flip", "against the usual norm of this output"}


def scaled(folder: Path, factor: float) -> Path:
    """A YOSO whose feed-forward layers are `factor` times as large inside, and as much smaller behind."""
    model = AutoModelForTokenClassification.from_pretrained(GOLDEN / "yoso" / TASK / "checkpoint")
    with torch.no_grad():
        layer = model.yoso.encoder.layer[1]
        for parameter in (layer.intermediate.dense.weight, layer.intermediate.dense.bias):
            parameter *= factor
        layer.output.dense.weight /= factor
    model.save_pretrained(folder / "checkpoint")
    return folder / "checkpoint"


def test_an_overflow_is_told_with_its_node(tmp_path: Path) -> None:
    checkpoint = scaled(tmp_path, 6e4)
    spec = ModelSpec(str(checkpoint), "onnx", tmp_path / "bundle", precision="fp16", keep_fp32=())
    with pytest.raises(ParityError, match="too large for fp16") as caught:
        export(spec)
    value, node = str(caught.value.got).split(" from ")
    assert float(value) > FLOAT16_OVERFLOW
    assert node == "layer.1.intermediate.dense/MatMul"
    assert "--keep-fp32 auto" in str(caught.value.hint)
    assert "--precision bf16" in str(caught.value.hint)
    assert not (tmp_path / "bundle").exists()
    # It is so: with every stored value rounded, there are infinities; and bfloat16 has none of it.
    done = export(replace(spec, validate=False))
    program = bounded(done.bundle.folder / "model.onnx", StaticBounds())
    compute_in_float32(program, ir.DataType.FLOAT16)
    ir.save(program, tmp_path / "rounded.onnx")
    case = max(Golden(GOLDEN / "yoso" / TASK), key=lambda case: case.inputs["attention_mask"].size)
    with open_runner(tmp_path / "rounded.onnx", done.bundle.signature) as run:
        assert not np.isfinite(run(case.inputs)["logits"]).all()
    assert export(replace(spec, precision="bf16", out=tmp_path / "bf16")).report.verdict == PASSED
    # And what overflows stays in float32 where the user leaves the choice.
    done = export(replace(spec, keep_fp32=None, out=tmp_path / "auto"))
    assert done.report.verdict == PASSED
    assert done.bundle.kept_in_fp32 == ("layer.1.feed_forward",)
    found = done.bundle.manifest["kept_in_fp32"]
    assert found["error_without"] is None  # infinite
    assert {part for part, error in found["alone"].items() if error is None} == {"layer.1.feed_forward"}


def test_values_near_the_bound_are_warned_of(tmp_path: Path) -> None:
    told: list[str] = []
    checkpoint = scaled(tmp_path, 6e3)
    done = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "bundle", precision="fp16"), told.append)
    largest = done.bundle.manifest["largest_values"][0]
    assert largest["node"] == "layer.1.intermediate.dense/MatMul"
    assert NEAR * FLOAT16_OVERFLOW < largest["value"] < FLOAT16_OVERFLOW
    assert any("come near to the largest float16" in line for line in told)
    assert done.bundle.manifest["warnings"]


def test_values_inside_of_bodies_are_looked_at(exported: Get) -> None:
    folder = exported(TASK, "ort", "longformer", "fp16").bundle.folder
    golden = Golden(folder)
    cases = [(case.case.name, case.inputs) for case in golden if golden.signature.most_globals(case.inputs) <= 4]
    found = largest_values(folder / "model.onnx", cases, 4)
    assert {one.node for one in found if "BandedWindowAttention, MatMul in its body" in one.node}
    assert all(0 <= one.value < 1e3 for one in found)
    assert [one.value for one in found] == sorted((one.value for one in found), reverse=True)


def test_a_weight_that_float16_cannot_hold_is_told(tmp_path: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(GOLDEN / "longformer" / TASK / "checkpoint")
    with torch.no_grad():
        model.longformer.encoder.layer[1].output.dense.weight[3, 5] = -1e5
    model.save_pretrained(tmp_path / "checkpoint")
    spec = ModelSpec(str(tmp_path / "checkpoint"), "onnx", tmp_path / "bundle", precision="fp16", keep_fp32=())
    with pytest.raises(InputError, match="a weight is too large for fp16") as caught:
        export(spec)
    assert str(caught.value.got).startswith("1e+05 in ")
    assert "--keep-fp32 layer.1.feed_forward" in str(caught.value.hint)
    assert "--precision bf16" in str(caught.value.hint)
    assert not (tmp_path / "bundle").exists()
    done = export(replace(spec, keep_fp32=None))
    assert done.report.verdict == PASSED
    assert "layer.1.feed_forward" in done.bundle.kept_in_fp32


def test_an_overflow_that_no_output_shows_is_kept_too(tmp_path: Path) -> None:
    """Tanh of infinity is 1, as of what overflows."""
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    with torch.no_grad():
        norm = model.longformer.encoder.layer[-1].output.LayerNorm
        norm.weight[0], norm.bias[0] = 0.0, 100.0
        model.classifier.dense.weight[:, 0] = 2e3
    model.save_pretrained(tmp_path / "checkpoint")
    told: list[str] = []
    spec = ModelSpec(str(tmp_path / "checkpoint"), "onnx", tmp_path / "bundle", precision="fp16")
    done = export(spec, told.append)
    assert done.report.verdict == PASSED
    assert done.bundle.kept_in_fp32 == ("head",)
    assert done.bundle.manifest["kept_in_fp32"]["alone"] == {}  # parity asked for nothing
    assert any("beyond what fp16 can hold, so that they stay in fp32" in line and "head" in line for line in told)


def test_weights_beside_the_model_in_float32_and_within_it_in_half(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As those of a base-size Nystroemformer are."""
    checkpoint = GOLDEN / "nystromformer" / TASK / "checkpoint"
    whole = (checkpoint / "model.safetensors").stat().st_size
    monkeypatch.setattr(onnx_file, "EXTERNAL_DATA_ABOVE_BYTES", int(0.8 * whole))
    full = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "fp32"))
    assert (tmp_path / "fp32" / "model.onnx.data").is_file()
    done = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "fp16", precision="fp16"))
    assert not (tmp_path / "fp16" / "model.onnx.data").exists()
    assert done.report.verdict == full.report.verdict == PASSED


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_dry_run_finds_nothing_against_it(
    family: str, precision: str, examined: Callable[..., DryRun], exported: Get
) -> None:
    for target in ("trt", "trt-rtx"):
        found = examined(exported(TASK, "ort", family, precision).bundle.folder, target)
        assert [finding for finding in found.findings if finding.severity == ERROR] == []
        assert found.works


def test_a_dry_run_of_a_checkpoint_is_of_the_precision(examined: Callable[..., DryRun]) -> None:
    found = examined(GOLDEN / "nystromformer" / TASK / "checkpoint", "trt", precision="bf16")
    assert found.works
    assert any("bfloat16 needs a GPU of compute capability 8.0" in finding.what for finding in found.findings)


def test_a_dry_run_of_a_bundle_keeps_its_precision(examined: Callable[..., DryRun], exported: Get) -> None:
    bundle = exported(TASK, "ort", "longformer", "fp16").bundle.folder
    assert examined(bundle, precision="fp16").works
    for path in (bundle, bundle / "model.onnx"):
        with pytest.raises(InputError, match="only a checkpoint can be examined in another precision"):
            examined(path, precision="bf16")


@pytest.mark.parametrize("precision", HALVES)
def test_a_kit_is_of_the_precision(precision: str, tmp_path: Path) -> None:
    checkpoint = GOLDEN / "longformer" / TASK / "checkpoint"
    spec = ModelSpec(str(checkpoint), "trt", tmp_path / "kit", kit=True, precision=precision)
    done = export(spec)
    assert done.report is not None
    assert not list(done.report.failures())
    facts = json.loads((tmp_path / "kit" / "kit.json").read_text())
    assert facts["precision"] == precision
    bars = [bar for case in facts["cases"] for bar in case["outputs"].values()]
    assert {bar["relative_l2"] for bar in bars} == {RELATIVE_L2[precision]}
    graph = ir.load(tmp_path / "kit" / "model.trt.onnx").graph
    assert TYPES[precision] in {value.dtype for node in graph if node.domain == DOMAIN for value in node.inputs}
    assert f"--precision {precision}" in (tmp_path / "kit" / "README.md").read_text()


def test_a_bfloat16_model_for_onnxruntime_runs_without_us(exported: Get) -> None:
    """The portable model is refused by stock onnxruntime on the CPU, and a warning says so; the optimised one runs."""
    import onnxruntime

    done = exported(TASK, "ort", "yoso", "bf16")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(done.bundle.folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    if ort_library() is None:
        onnxruntime.InferenceSession(done.bundle.folder / "model.ort.onnx", options, providers=["CPUExecutionProvider"])


def test_the_commands_that_make_it_again_say_it(tmp_path: Path) -> None:
    spec = ModelSpec("checkpoint", "onnx", Path("bundle"), precision="bf16")
    assert "--precision bf16" in export_command(spec)
    assert "--precision bf16" in golden_command(spec, None, (), all_rows=False)
    assert "--precision" not in export_command(replace(spec, precision="fp32"))


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(InputError, match="unknown precision"):
        ModelSpec("model", "onnx", ROOT / "nothing", precision="int4")
