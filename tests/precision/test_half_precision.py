"""`--precision fp16|bf16`: types in the graph, the islands of the policy, and parity within the bands of half precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from conftest import FAMILY_TASKS, GOLDEN, ROOT
from transformers import AutoModelForMaskedLM

from lat_export.errors import InputError
from lat_export.ops import DOMAIN
from lat_export.pipeline import Exported, export
from lat_export.precision import POLICY, convert
from lat_export.revalidation import revalidate
from lat_export.types import PRECISIONS, ModelSpec
from lat_export.validation.tolerance import RELATIVE_L2

HALVES = ("fp16", "bf16")
TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
Get = Callable[..., Exported]


def worst(done: Exported) -> float:
    assert done.report is not None
    return max(row.relative_l2 for subject in done.report.subjects for row in subject.rows)


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_every_model_is_within_the_band_of_fp16(family: str, task: str, exported: Get) -> None:
    done = exported(task, family=family, precision="fp16")
    assert done.report is not None
    assert done.report.passed
    # Further off than float32 ever is: it was computed in half precision.
    assert RELATIVE_L2["fp32"] < worst(done) <= RELATIVE_L2["fp16"]


@pytest.mark.parametrize("target", ["ort", "trt-rtx"])
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", ["longformer", "nystromformer", "yoso"])
def test_every_target_takes_half_precision(family: str, precision: str, target: str, exported: Get) -> None:
    done = exported("token-classification", target, family, precision)
    assert done.report is not None
    assert not done.report.failures()
    assert RELATIVE_L2["fp32"] < worst(done) <= RELATIVE_L2[precision]
    if target == "ort":
        assert done.report.passed
    again = revalidate(done.bundle.folder)
    assert not again.failures()


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", ["longformer", "nystromformer", "yoso"])
def test_weights_and_attention_are_in_half_precision(family: str, precision: str, exported: Get) -> None:
    whole = exported("fill-mask", family=family).bundle
    half = exported("fill-mask", family=family, precision=precision).bundle
    graph = ir.load(half.folder / "model.onnx").graph
    wide = [value.name for value in graph.initializers.values() if value.dtype == TYPES["fp32"]]
    assert wide == []
    for node in graph:
        if node.domain == DOMAIN:
            assert {value.dtype for value in node.inputs} <= {TYPES[precision], ir.DataType.INT32}
    assert all(value.dtype == TYPES["fp32"] for value in graph.outputs)
    sizes = [bundle.manifest["files"]["model.onnx"]["bytes"] for bundle in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]
    assert half.manifest["precision"] == precision
    assert half.manifest["computed_in"][precision] > 20 * half.manifest["computed_in"]["casts"]
    assert whole.manifest["computed_in"] == {}


def sampled(folder: Path) -> Path:
    checkpoint = Path(shutil.copytree(GOLDEN / "yoso" / "fill-mask" / "checkpoint", folder / "checkpoint"))
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "use_expectation": False, "num_hash": 8}))
    return checkpoint


@pytest.mark.parametrize("precision", HALVES)
def test_hashing_stays_in_float32(precision: str, tmp_path: Path) -> None:
    done = export(ModelSpec(str(sampled(tmp_path)), "onnx", tmp_path / "bundle", precision=precision))
    graph = ir.load(done.bundle.folder / "model.onnx").graph
    (hashed, *_) = nodes = [node for node in graph if node.op_type == "LshCumulation"]
    for node in nodes:
        assert {value.dtype for value in (*node.inputs, *node.outputs)} <= {TYPES["fp32"], ir.DataType.INT32}
    whole = export(ModelSpec(str(tmp_path / "checkpoint"), "onnx", tmp_path / "whole"))
    (same, *_) = [node for node in ir.load(whole.bundle.folder / "model.onnx").graph if node.op_type == "LshCumulation"]
    assert np.array_equal(hashed.inputs[4].const_value.numpy(), same.inputs[4].const_value.numpy())
    assert done.report is not None
    assert done.report.passed
    assert [node.verdict for node in done.report.subjects[0].sampled] == ["passed"] * len(nodes)


def test_a_weight_that_float16_cannot_hold_is_told(tmp_path: Path) -> None:
    source = GOLDEN / "longformer" / "fill-mask" / "checkpoint"
    model = AutoModelForMaskedLM.from_pretrained(source)
    with torch.no_grad():
        model.longformer.encoder.layer[1].output.dense.weight[3, 5] = 1e5
    model.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(InputError, match="a weight is too large for fp16") as caught:
        export(ModelSpec(str(tmp_path / "checkpoint"), "onnx", tmp_path / "bundle", precision="fp16"))
    assert str(caught.value.got).startswith("1e+05 in ")
    assert "--precision bf16" in str(caught.value.hint)
    assert not (tmp_path / "bundle").exists()


def test_a_mask_value_becomes_the_least_number_of_the_type() -> None:
    least = np.array(np.finfo(np.float32).min)
    rows = ir.Value(name="rows", shape=ir.Shape([4]), type=ir.TensorType(TYPES["fp32"]))
    weight = ir.Value(name="least", const_value=ir.tensor(least), type=ir.TensorType(TYPES["fp32"]), shape=ir.Shape([]))
    node = ir.node("Max", [rows, weight], name="floor")
    node.outputs[0].name, node.outputs[0].type = "output", ir.TensorType(TYPES["fp32"])
    graph = ir.Graph([rows], node.outputs, nodes=[node], initializers=[weight], name="g", opset_imports={"": 20})
    assert convert(ir.Model(graph, ir_version=10), "fp16") == {"fp16": 1, "fp32": 0, "casts": 2}
    (kept,) = graph.initializers.values()
    assert kept.const_value.numpy() == np.finfo(np.float16).min
    assert [output.name for output in graph.outputs] == ["output"]


def test_the_policy_names_what_there_is() -> None:
    from lat_export.ops import OPS

    for row in POLICY:
        assert row.reason
        assert set(row.precisions) <= set(PRECISIONS) - {"fp32"}
        domain, _, name = row.op.rpartition("::")
        assert name in OPS if domain == DOMAIN else not domain


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(InputError, match="unknown precision"):
        ModelSpec("model", "onnx", ROOT / "nothing", precision="int4")
