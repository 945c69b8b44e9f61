"""Dry runs as a whole: the three families, the form of the output, exit codes, and TensorRT-RTX's own word."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from dry_run.graphs import INT64, banded_model, plugin_folder, rows, tensor, write
from forked import lat_export, started
from onnx import helper, numpy_helper

from lat_export.dry_run import DryRun, dry_run
from lat_export.dry_run.importers import TABLES, TYPES, importers
from lat_export.dry_run.make_importers import of_document
from lat_export.engine_options import EngineOptions
from lat_export.targets import TARGETS
from lat_export.types import ModelSpec, Range

pytestmark = pytest.mark.usefixtures("no_plugins")

Examined = Callable[..., DryRun]
ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "golden"
SCHEMA = json.loads((ROOT / "exporter" / "lat_export" / "dry_run" / "dry_run.schema.json").read_text())
RTX_LACK = TARGETS["trt-rtx"].missing()
needs_rtx = pytest.mark.skipif(RTX_LACK is not None, reason=f"TensorRT-RTX is missing: {RTX_LACK}")
FAMILIES = ("longformer", "nystromformer", "yoso")


def checked(data: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    return data


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_would_build(family: str, examined: Examined, bundles: Callable[[str], Path]) -> None:
    for target in ("trt", "trt-rtx"):
        found = examined(bundles(family), target)
        data = checked(found.to_json())
        assert data["works"], data["findings"]
        assert not [f for f in data["findings"] if f["severity"] != "note"], data["findings"]
        functions = [node for node in data["nodes"] if node["kind"] == "local function"]
        assert {node["name"] for node in functions} == (set(data["forms"]) if target == "trt" else set())
        assert data["counts"]["unknown"] == 0
        assert len(data["nodes"]) == sum(data["counts"].values())
        assert set(data["forms"].values()) == {"body"}
        assert (data["plugins"] is None) == (target == "trt-rtx")
    assert len(found.forms) >= 3


@needs_rtx
@pytest.mark.parametrize("family", FAMILIES)
def test_rtx_builds_it_for_real_and_nothing_is_kept(
    family: str, bundles: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    before = sorted(path.name for path in bundles(family).rglob("*"))
    found = dry_run(ModelSpec(str(bundles(family)), "trt-rtx", Path(), sequence=Range(8, 16, 64)))
    assert found.works, found.findings
    assert found.trial.built
    assert found.trial.engine_bytes > 100_000
    checked(found.to_json())
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(path.name for path in bundles(family).rglob("*")) == before


@needs_rtx
def test_word_of_rtx_decides_for_rtx_and_warns_for_tensorrt(tmp_path: Path) -> None:
    """A MatMul of int64, which is documented for no such type: for the rules that is a warning."""
    weight = numpy_helper.from_array(np.ones((8, 8), np.int64), "w")
    victim = helper.make_node("MatMul", ["x", "w"], ["y"], name="victim")
    path = write(tmp_path / "m.onnx", [victim], [rows("x", 8, INT64)], [rows("y", 8, INT64)], initializer=[weight])
    sizes = {"batch": Range(1, 1, 2), "sequence": Range(8, 8, 8)}
    of_rtx = dry_run(ModelSpec(str(path), "trt-rtx", Path(), **sizes))
    assert [f.rule for f in of_rtx.findings if f.severity == "error"] == ["TensorRT-RTX builds it"]
    assert of_rtx.trial.errors
    of_trt = dry_run(ModelSpec(str(path), "trt", Path(), **sizes))
    assert of_trt.works
    assert [f.severity for f in of_trt.findings if f.rule == "TensorRT-RTX builds it"] == ["warning"]
    checked(of_trt.to_json())


def test_without_rtx_that_is_noted(examined: Examined, tmp_path: Path) -> None:
    found = examined(banded_model(tmp_path / "m.onnx"), "trt-rtx")
    assert found.works
    assert "pip install tensorrt-rtx-cu13" in found.trial.missing
    assert any("nothing was built for real" in f.what for f in found.findings)


@needs_rtx
def test_checkpoint_from_the_command_line(tmp_path: Path) -> None:
    checkpoint = GOLDEN / "nystromformer" / "question-answering" / "checkpoint"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = lat_export("model", checkpoint, "--to", "trt", "--dry-run", "--json", TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    data = checked(json.loads(done.stdout))
    assert data["works"]
    assert data["profile"]["sizes"]["sequence"] == "8:96:96"
    assert data["tensorrt_rtx"]["built"]
    assert list(scratch.iterdir()) == []


def test_exit_codes_and_what_is_printed(tmp_path: Path) -> None:
    sizes = ("--to", "trt", "--batch", "1:1:2", "--seq", "8:16:64", "--max-global", "4", "--dry-run")
    plugins = {"LAT_EXPORT_PLUGINS": str(plugin_folder(tmp_path / "built", "banded_window_attention"))}
    good = lat_export("model", banded_model(tmp_path / "good.onnx"), *sizes, **plugins)
    assert good.returncode == 0, good.stderr
    assert "the build would work" in good.stdout
    assert "1 lat nodes: 1 plugin" in good.stdout
    assert "sm_90" in good.stdout
    bad = lat_export("model", banded_model(tmp_path / "bad.onnx", width=48), *sizes, **plugins)
    assert bad.returncode == 1
    for words in ("error: the plugin of lat::BandedWindowAttention", "node: attention", "D=24", "mend: build without"):
        assert words in bad.stdout
    assert bad.stdout.rstrip().endswith("the build would not work: 1 error")
    for wrong, words in (
        (("--to", "onnx", "--dry-run"), "a dry run is of engines"),
        (("--to", "trt", "--dry-run"), "no sizes for sequence"),
    ):
        done = lat_export("model", tmp_path / "good.onnx", *wrong)
        assert (done.returncode, words in done.stderr, done.stdout) == (2, True, "")
    no_out = started("model", tmp_path / "good.onnx", "--to", "trt")
    assert (no_out.returncode, "Missing option '--out'" in no_out.stderr) == (2, True)


def test_an_option_that_tensorrt_has_not_is_told_without_tensorrt(
    examined: Examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TARGETS["trt"], "module", "no_such_module")
    engine = EngineOptions(compute_capabilities=("8.6",), timing_cache=tmp_path / "kept")
    found = examined(banded_model(tmp_path / "m.onnx"), engine=engine)
    (told,) = (finding for finding in found.findings if finding.rule == "options")
    assert (told.severity, told.got, found.works) == ("warning", "--compute-capability", True)


def test_bundle_keeps_the_sizes_that_it_was_built_for(examined: Examined, bundles: Callable[[str], Path]) -> None:
    found = dry_run(ModelSpec(str(bundles("longformer")), "trt", Path(), batch=Range(2, 2, 2)))
    assert {dim: str(sizes) for dim, sizes in found.plan.sizes.items()} == {"batch": "2:2:2", "sequence": "1:256:256"}
    assert found.plan.max_global == 64


def test_schema_bites(examined: Examined, tmp_path: Path) -> None:
    data = checked(examined(banded_model(tmp_path / "m.onnx")).to_json())
    for change in (
        {"works": False},
        {"counts": {**data["counts"], "unknown": -1}},
        {"forms": {"attention": "native"}},
        {"more": 1},
    ):
        with pytest.raises(jsonschema.ValidationError):
            checked({**data, **change})
    broken = checked(examined(banded_model(tmp_path / "n.onnx", num_heads=0)).to_json())
    with pytest.raises(jsonschema.ValidationError):
        checked({**broken, "works": True})


def test_tables_of_ops_are_sound() -> None:
    assert sorted(path.stem for path in TABLES.glob("*.json")) == ["trt", "trt-rtx"]
    standard = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    for target in ("trt", "trt-rtx"):
        data = json.loads((TABLES / f"{target}.json").read_text())
        names = [name for group in data["operators"].values() for name in group]
        assert len(names) == len(set(names))
        assert {part for types in data["operators"] for part in types.split()} <= set(TYPES)
        # Names of Caffe2's time, which the parser still has.
        assert set(names) - standard <= {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    # TensorRT-RTX's parser is of TensorRT's source: what the one knows, the other knows, but for a few.
    assert len(set(importers("trt").operators) ^ set(importers("trt-rtx").operators)) < 20


@needs_rtx
def test_table_of_rtx_is_what_its_parser_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lat_export.dry_run.make_importers", "trt-rtx"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made = json.loads(done.stdout)
    committed = json.loads((TABLES / "trt-rtx.json").read_text())
    if made["version"] != committed["version"]:
        pytest.skip(f"the table is of {committed['version']}, installed is {made['version']}")
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert set(made["operators"][""]) == set(committed["operators"][""]) & known


def test_documented_table_is_read_from_its_document() -> None:
    text = """
TensorRT 10.99 supports operators in the inclusive range of opset 9 to opset 24. More.
| Operator | Supported | Supported Types | Restrictions |
|----------|-----------|-----------------|--------------|
| Abs      | Y         | FP32, FP16, BF16, INT32, INT64 |
| Add      | Y [EXPERIMENTAL] | FP32, FP16, BF16, INT32, INT64 | one | two
| Unique   | N         |
| Xor      | Y         | BOOL
"""
    made = of_document(text)
    assert (made["version"], made["opsets"]) == ("10.99", [9, 24])
    assert made["operators"] == {"FP32 FP16 BF16 INT32 INT64": ["Abs", "Add"], "BOOL": ["Xor"]}


def test_tables_and_schema_are_in_the_package() -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    listed = (ROOT / "pyproject.toml").read_text()
    assert '"lat_export.dry_run" = ["dry_run.schema.json", "operators/*.json"]' in listed


def blocks_of_at_most_64_rows(path: Path) -> Path:
    """[B, N, 512] in blocks of min(64, N) rows, as Longformer's body once had them."""
    constants = {"one": [1], "two": [2], "wide": [64], "width": [512], "minus_one": [-1], "none": [0]}
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Shape", ["x"], ["length"], start=1, end=2),
        helper.make_node("Min", ["length", "wide"], ["block"]),
        helper.make_node("Add", ["length", "block"], ["more"]),
        helper.make_node("Sub", ["more", "one"], ["upper"]),
        helper.make_node("Div", ["upper", "block"], ["blocks"]),
        helper.make_node("Mul", ["blocks", "block"], ["whole"]),
        helper.make_node("Sub", ["whole", "length"], ["tail"]),
        helper.make_node("Concat", ["none", "tail"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads", "", "one"], ["padded"]),
        helper.make_node("Concat", ["batch", "minus_one", "block", "width"], ["dims"], axis=0),
        helper.make_node("Reshape", ["padded", "dims"], ["cut"], allowzero=1),
        helper.make_node("MatMul", ["cut", "weight"], ["first"]),
        helper.make_node("MatMul", ["first", "weight"], ["second"]),
        helper.make_node("ReduceMax", ["second", "two"], ["y"], keepdims=0),
    ]
    initializer = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    initializer.append(numpy_helper.from_array(np.eye(512, dtype=np.float32), "weight"))
    return write(path, nodes, [rows("x", 512)], [tensor("y", "batch", "blocks", 512)], initializer=initializer)


@needs_rtx
def test_memory_that_rtx_cannot_bound_is_a_warning(tmp_path: Path) -> None:
    path = blocks_of_at_most_64_rows(tmp_path / "m.onnx")

    def examined_from(tokens: int) -> DryRun:
        sizes = {"batch": Range(8, 8, 8), "sequence": Range(tokens, 64, 128)}
        return dry_run(ModelSpec(str(path), "trt-rtx", Path(), **sizes))

    low, high = examined_from(1), examined_from(64)
    assert low.works
    assert [f.rule for f in low.findings if f.severity == "warning"] == ["memory"]
    assert not [f for f in high.findings if f.severity == "warning"]
    assert "Total Activation Memory" in high.trial.memory


@needs_rtx
def test_longformer_from_one_token_on_needs_no_more_memory(bundles: Callable[[str], Path]) -> None:
    """Its blocks are min(W, N) tokens long; N / min(W, N) had TensorRT-RTX plan N blocks of W."""

    def planned_from(tokens: int) -> int:
        sizes = {"batch": Range(8, 8, 8), "sequence": Range(tokens, 64, 128)}
        found = dry_run(ModelSpec(str(bundles("longformer")), "trt-rtx", Path(), max_global=4, **sizes))
        assert not [f for f in found.findings if f.severity == "warning"]
        return found.trial.memory["Total Activation Memory"]

    assert planned_from(1) < 1.1 * planned_from(64)
