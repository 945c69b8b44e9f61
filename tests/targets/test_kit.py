"""`--to trt --kit`: what is in the folder that it writes. Nothing here needs TensorRT or a GPU."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import onnx_ir as ir
import pytest
from conftest import GOLDEN, ROOT
from forked import lat_export
from targets.kit_fixtures import KITS_MADE, Kit, facts_of

from lat_export import native
from lat_export.digest import file_sha256
from lat_export.errors import InputError, MissingError
from lat_export.pipeline import export
from lat_export.revalidation import revalidate
from lat_export.stages import bundle as bundle_stage
from lat_export.stages import kit as kit_stage
from lat_export.targets import KITS, kit_of
from lat_export.targets.trt_kit import KIT_MODEL
from lat_export.types import ModelSpec
from lat_export.validation.check import within
from lat_export.validation.golden import Golden
from lat_export.validation.report import NOT_RUN, PASSED


@pytest.mark.parametrize("family", KITS_MADE)
def test_every_file_is_listed_with_its_digest(family: str, kit: Kit) -> None:
    made = kit(family)
    folder, manifest = made.bundle.folder, made.bundle.manifest
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "manifest.json.sha256"}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert manifest["kit"] is True
    roles = {name: entry["role"] for name, entry in manifest["files"].items()}
    assert roles[KIT_MODEL] == "model for TensorRT"
    assert {roles[name] for name in ("build.sh", "kit.json", "plugins/CMakeLists.txt")} == {"kit"}
    assert {name for name, role in roles.items() if role == "tokenizer"} == {
        name for name in roles if name.startswith("tokenizer/")
    }
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0
    assert not list(folder.glob("*.engine"))
    assert str(ROOT) not in "".join(path.read_text() for path in folder.glob("*.*") if path.suffix in (".md", ".json"))


def test_all_sources_are_in_it(kit: Kit) -> None:
    """All that git has of kit/ and plugins/, but for tests, the device that the host plays, and settings of tools."""
    folder = kit("longformer").bundle.folder
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "kit", "plugins"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in listed.stdout.split() if (ROOT / name).is_file()]
    assert len(names) > 60
    lacking = [name for name in names if not (folder / name.removeprefix("kit/")).is_file()]
    left_out = re.compile(r"cuda_on_host/|_test\.cpp$")
    assert [name for name in lacking if not left_out.search(name)] == []
    assert (folder / "tensorrt_build.py").read_bytes() == kit_stage.ENGINE_BUILDER.read_bytes()
    assert os.access(folder / "build.sh", os.X_OK)


@pytest.mark.parametrize("family", KITS_MADE)
def test_readme_has_no_empty_place(family: str, kit: Kit) -> None:
    text = (kit(family).bundle.folder / "README.md").read_text()
    assert re.findall(r"@[A-Z]+@", text) == []
    assert family in text
    assert "--to trt --kit" in text
    assert "a TensorRT plugin" in text
    assert ("sequence is a multiple of" in text) == (family == "nystromformer")


def test_readme_says_what_runs_each_op(kit: Kit) -> None:
    text = (kit("longformer").bundle.folder / "README.md").read_text()
    assert "BandedWindowAttention, 3 nodes: a TensorRT plugin" in text
    assert "- batch 1:1:2, sequence 16:64:128" in text
    assert "at most 3" in text
    assert {form for family in KITS_MADE for form in kit(family).bundle.forms.values()} == {"plugin"}


@pytest.mark.parametrize("family", KITS_MADE)
def test_model_for_tensorrt_has_lat_nodes_bodies_and_bounds(family: str, kit: Kit) -> None:
    folder = kit(family).bundle.folder
    portable, lowered = ir.load(folder / "model.onnx"), ir.load(folder / KIT_MODEL)
    nodes = [node.name for node in lowered.graph if node.domain == "lat"]
    assert nodes == [node.name for node in portable.graph if node.domain == "lat"]
    assert nodes
    assert {node.op_type for node in lowered.graph if node.domain == "lat"} <= {
        name for _, name, _ in lowered.functions
    }
    in_bodies = {node.op_type for function in lowered.functions.values() for node in function}
    assert not in_bodies & {"NonZero", "If", "Loop"}


@pytest.mark.parametrize("family", KITS_MADE)
def test_report_never_calls_the_engine_passed(family: str, kit: Kit) -> None:
    made = kit(family)
    for report in (made.report, revalidate(made.bundle.folder)):
        assert report is not None
        portable, lowered, engine = report.subjects
        assert (portable.verdict, lowered.verdict, engine.verdict) == (PASSED, PASSED, NOT_RUN)
        assert "not built here" in engine.remark
    assert made.bundle.manifest["validated"]["model.trt.engine in TensorRT"] == NOT_RUN


@pytest.mark.parametrize("family", KITS_MADE)
def test_cases_are_those_of_the_profile(family: str, kit: Kit) -> None:
    bundle = kit(family).bundle
    facts, golden = facts_of(bundle.folder), Golden(bundle.folder)
    admitted = [case.case.name for case in golden if within(case, bundle.signature, bundle.plan)]
    assert [case["name"] for case in facts["cases"]] == admitted
    assert facts["left_out"] == len(golden) - len(admitted)
    assert facts["inputs"] == [spec.name for spec in bundle.signature.inputs]
    for case in facts["cases"]:
        assert list(case["outputs"]) == [spec.name for spec in bundle.signature.outputs]
        assert all(bar["relative_l2"] == 1e-5 and bar["dtypes"] == ["float32"] for bar in case["outputs"].values())
    if family == "longformer":
        assert facts["left_out"] > 0  # more globals than 3
    if family == "yoso":
        # Two or three scores of choices can cancel: they are measured by their usual size.
        assert all(bar["least_norm"] > 0 for case in facts["cases"] for bar in case["outputs"].values())


def test_profile_is_in_both_forms(kit: Kit) -> None:
    folder = kit("longformer").bundle.folder
    names = ("input_ids", "attention_mask", "global_attention_mask")
    assert facts_of(folder)["profiles"] == [{name: [[1, 16], [1, 64], [2, 128]] for name in names}]
    assert (folder / "trtexec.args").read_text().splitlines() == [
        "--minShapes=" + ",".join(f"{name}:1x16" for name in names),
        "--optShapes=" + ",".join(f"{name}:1x64" for name in names),
        "--maxShapes=" + ",".join(f"{name}:2x128" for name in names),
    ]


def test_bars_of_sampled_attention_are_the_reports_own(tmp_path: Path) -> None:
    """Where hash codes may flip, the tolerance is what the validation took."""
    from families.small_checkpoint import small_checkpoint

    folder = small_checkpoint(tmp_path / "checkpoint", "yoso", use_expectation=False)
    made = export(ModelSpec(str(folder), "trt", tmp_path / "kit", kit=True))
    assert made.report is not None
    tolerances = {(row.case, row.output): (row.tolerance, row.remark) for row in made.report.subjects[1].rows}
    bars = {
        (case["name"], name): (bar["relative_l2"], bar["remark"])
        for case in facts_of(tmp_path / "kit")["cases"]
        for name, bar in case["outputs"].items()
    }
    assert bars == tolerances
    assert any(remark for _, remark in bars.values())


def test_weights_beside_the_model_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are large: here every weight counts as that."""
    from lat_export import onnx_file

    monkeypatch.setattr(onnx_file, "EXTERNAL_DATA_ABOVE_BYTES", 0)
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    made = export(ModelSpec(str(checkpoint), "trt", tmp_path / "kit", kit=True))
    folder = made.bundle.folder
    assert [path.name for path in folder.glob("*.data")] == ["model.onnx.data"]
    assert (folder / KIT_MODEL).stat().st_size < (folder / "model.onnx.data").stat().st_size
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects] == [PASSED, PASSED, NOT_RUN]


def test_a_kit_can_be_replaced_and_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = str(GOLDEN / "longformer" / "text-classification" / "checkpoint")
    spec = ModelSpec(checkpoint, "trt", tmp_path / "kit", kit=True, validate=False, force=True)
    export(spec)
    first = file_sha256(tmp_path / "kit" / "SHA256SUMS")
    monkeypatch.setattr(bundle_stage, "versions", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(spec)
    assert file_sha256(tmp_path / "kit" / "SHA256SUMS") == first
    assert [path.name for path in tmp_path.iterdir()] == ["kit"]


@pytest.mark.parametrize("target", ["onnx", "ort", "trt-rtx"])
def test_kit_is_for_tensorrt_only(target: str, tmp_path: Path) -> None:
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    done = lat_export("model", checkpoint, "--to", target, "--kit", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "there is no build kit for" in done.stderr
    assert f"got: --to {target} --kit   expected: --to trt --kit" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_sources_no_kit_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in an installed wheel."""
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    with pytest.raises(MissingError, match="no build kit can be written") as caught:
        kit_of("trt")
    assert caught.value.exit_code == 3
    assert list(KITS) == ["trt"]


def test_missing_tensorrt_names_the_kit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from lat_export.targets import TARGETS, available_target

    for name in ("trt", "trt-rtx"):
        monkeypatch.setattr(TARGETS[name], "module", "no_such_module")
    with pytest.raises(MissingError, match="--to trt --kit writes a folder"):
        available_target("trt")
    with pytest.raises(MissingError) as caught:
        available_target("trt-rtx")
    assert "--kit" not in str(caught.value)


def test_the_command_line_tells_what_comes_next(tmp_path: Path) -> None:
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    out = tmp_path / "kit"
    done = lat_export("model", checkpoint, "--to", "trt", "--kit", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "notice: TensorRT is not installed" not in done.stderr
    assert f"copy {out} there and run its build.sh" in done.stderr
    assert re.search(r"plugins/ \(\d+ files\) .* kit", done.stdout)
    assert "cuda_attention.cuh" not in done.stdout
    assert "engine to build for: batch 1:1:8" in done.stdout
    assert "not built here" in done.stdout


def test_unknown_target_has_no_kit() -> None:
    assert (kit_stage.KIT_SOURCES / "build.sh").is_file()
    with pytest.raises(InputError, match="unknown target"):
        kit_of("tensorflow")
