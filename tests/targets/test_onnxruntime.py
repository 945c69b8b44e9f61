"""The ONNX and ONNX Runtime targets."""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lat_export import native, onnx_file
from lat_export.console import print_report
from lat_export.errors import InputError, MissingError, ShapeError
from lat_export.pipeline import Exported, export
from lat_export.revalidation import revalidate
from lat_export.targets.contract import WatchedRunner
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.ort import best_model
from lat_export.types import BODY, NATIVE, ModelSpec
from lat_export.validation.report import NOT_RUN, PASSED

Export = Callable[..., Exported]


BODIES = "model.ort.onnx in onnxruntime (CPU, function bodies)"
NATIVE_OPS = "model.ort.onnx in onnxruntime (CPU, native ops)"


@pytest.fixture
def no_native_ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "none"))


def kinds_of_nodes(model: Path) -> set[tuple[str, str]]:
    return {(node.domain, node.op_type) for node in ir.load(model).graph}


@pytest.mark.usefixtures("no_native_ops")
def test_optimised_model_is_fused_and_agrees(checkpoint: Path, tmp_path: Path) -> None:
    made = export(ModelSpec(str(checkpoint), "ort", tmp_path / "out"))
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects] == [PASSED, PASSED]
    kinds = kinds_of_nodes(made.bundle.folder / "model.ort.onnx")
    assert ("com.microsoft", "SkipLayerNormalization") in kinds
    assert not [kind for kind in kinds if kind[0] == "lat"]
    assert set(made.bundle.forms.values()) == {"body"}


@pytest.fixture(scope="module")
def native_bundle(exported: Export) -> Exported:
    if native.ort_library() is None:
        pytest.skip(f"no native ops for onnxruntime: {native.ADVICE}")
    return exported("fill-mask", "ort")


@pytest.mark.parametrize(
    ("family", "gelu"), [("longformer", "BiasGelu"), ("nystromformer", "FastGelu"), ("yoso", "BiasGelu")]
)
def test_onnxruntime_fuses_every_layer(family: str, gelu: str, exported: Export) -> None:
    """Two residual sums with their LayerNorm, and one activation with its bias, a layer; all products stay six."""
    bundle = exported("feature-extraction", "ort", family=family).bundle
    layers = json.loads((bundle.folder / "config.json").read_text())["num_hidden_layers"]
    fused = bundle.manifest["build"]["fused"]
    assert fused["SkipLayerNormalization"] >= 2 * layers
    assert fused[gelu] == layers
    left = Counter(node.op_type for node in ir.load(bundle.folder / "model.ort.onnx").graph)
    assert (left["Erf"], left["Tanh"], left["Pow"]) == (0, 0, 0)
    assert left["LayerNormalization"] <= 1  # of the embeddings
    assert left["MatMul"] == 6 * layers


def test_optimised_model_with_native_ops_keeps_nodes_and_bodies(native_bundle: Exported) -> None:
    assert native_bundle.report is not None
    assert {subject.subject: subject.verdict for subject in native_bundle.report.subjects}[NATIVE_OPS] == PASSED
    assert set(native_bundle.bundle.forms.values()) == {"native"}
    program = ir.load(native_bundle.bundle.folder / "model.ort.onnx")
    kinds = {(node.domain, node.op_type) for node in program.graph}
    assert ("com.microsoft", "SkipLayerNormalization") in kinds
    used = {op_type for domain, op_type in kinds if domain == "lat"}
    assert used == {"BandedWindowAttention", "GlobalTokenAttention"}
    assert used <= {name for domain, name, _ in program.functions if domain == "lat"}


@pytest.mark.usefixtures("no_native_ops")
def test_without_the_library_the_native_subject_is_not_run(native_bundle: Exported) -> None:
    """And the same file runs as bodies."""
    verdicts = {subject.subject: subject.verdict for subject in revalidate(native_bundle.bundle.folder).subjects}
    assert verdicts[BODIES] == PASSED
    assert verdicts[NATIVE_OPS] == NOT_RUN


def forms_of(made: Exported) -> dict[str, dict[str, str]]:
    assert made.report is not None
    return {subject.subject: subject.forms for subject in made.report.subjects}


def test_the_report_says_what_ran_each_node_of_each_artifact(native_bundle: Exported) -> None:
    """By name, from the sessions themselves: three of one bundle, of which one runs native."""
    found = forms_of(native_bundle)
    nodes = {f"layer.{i}.{op}" for i in range(3) for op in ("BandedWindowAttention", "GlobalTokenAttention")}
    assert found[NATIVE_OPS] == dict.fromkeys(nodes, NATIVE)
    for name in (BODIES, "model.onnx in onnxruntime (CPU, function bodies)"):
        assert found[name] == dict.fromkeys(nodes, BODY)
    shown = io.StringIO()
    with redirect_stdout(shown):
        print_report(native_bundle.report)  # type: ignore[arg-type]
    assert shown.getvalue().count("6 lat nodes: 6 ran as body") == 2
    assert shown.getvalue().count("6 lat nodes: 6 ran as native") == 1
    assert "native ops: " not in shown.getvalue()


@pytest.mark.usefixtures("no_native_ops")
def test_where_native_ops_are_missing_the_report_says_so(native_bundle: Exported) -> None:
    """Whatever the manifest promises."""
    report = revalidate(native_bundle.bundle.folder)
    assert set(native_bundle.bundle.forms.values()) == {NATIVE}
    assert {form for subject in report.subjects for form in subject.forms.values()} == {BODY}
    assert report.subjects[-1].forms == {}  # the one with native ops did not run
    assert report.provenance.environment["native ops"].startswith("missing: every lat node runs as its ONNX function")


def test_a_node_that_the_library_lacks_ran_as_a_body_among_native_ones(native_bundle: Exported, tmp_path: Path) -> None:
    """The session is asked node by node: an op of another name, with its body, is not native because others are."""
    program = ir.load(native_bundle.bundle.folder / "model.onnx")
    (body,) = (f for f in program.functions.values() if f.name == "BandedWindowAttention")
    program.functions[("lat", "FooAttention", "")] = other = body.clone()
    other.name = "FooAttention"
    (node,) = (node for node in program.graph if node.name == "layer.1.BandedWindowAttention")
    node.op_type = "FooAttention"
    ir.save(program, tmp_path / "model.onnx")
    watched = native_bundle.bundle.forms
    signature, library = native_bundle.bundle.signature, native.demand_ort_library()
    ones = np.ones((1, 9), np.int64)
    with open_runner(tmp_path / "model.onnx", signature, library, watched) as run:
        assert isinstance(run, WatchedRunner)
        assert run.forms == {}
        run({"input_ids": ones * 5, "attention_mask": ones, "global_attention_mask": ones})
        assert run.forms == {name: BODY if name == "layer.1.BandedWindowAttention" else NATIVE for name in watched}


def test_watching_leaves_no_file(native_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no run came to its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bundle = native_bundle.bundle
    ones = np.ones((1, 9), np.int64)
    for calls in (0, 1, 2):
        with open_runner(bundle.folder / "model.onnx", bundle.signature, watched=bundle.forms) as run:
            for _ in range(calls):
                run({"input_ids": ones * 5, "attention_mask": ones, "global_attention_mask": ones})
    with (
        pytest.raises(InputError),
        open_runner(bundle.folder / "manifest.json", bundle.signature, watched=bundle.forms),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_best_model_is_the_one_that_runs_native(native_bundle: Exported) -> None:
    folder, forms, library = native_bundle.bundle.folder, native_bundle.bundle.forms, native.ort_library()
    bodies = dict.fromkeys(forms, "body")
    assert best_model(folder, forms, library).name == "model.ort.onnx"
    assert best_model(folder, forms, None).name == "model.ort.onnx"
    assert best_model(folder, bodies, None).name == "model.ort.onnx"
    assert best_model(folder, bodies, library).name == "model.onnx"


def test_a_library_that_is_none_is_told(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"no library")
    bundle = exported("question-answering").bundle
    with (
        pytest.raises(MissingError, match="does not take the native ops"),
        open_runner(bundle.folder / "model.onnx", bundle.signature, tmp_path / "broken.so"),
    ):
        pass


def test_large_weights_go_to_a_file_beside_the_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "EXTERNAL_DATA_ABOVE_BYTES", 10_000)
    made = export(ModelSpec(str(checkpoint), "ort", tmp_path / "out"))
    files = made.bundle.manifest["files"]
    assert files["model.onnx.data"]["role"] == "model weights"
    assert files["model.onnx"]["bytes"] < files["model.onnx.data"]["bytes"]
    assert all(subject.verdict == PASSED for subject in revalidate(tmp_path / "out").subjects)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention_mask": np.ones((1, 8), np.int64)}, "size of sequence differs"),
        ({"input_ids": np.full((1, 9), 5, np.int32)}, "wrong dtype"),
        ({"input_ids": np.full(9, 5)}, "wrong rank"),
        ({"input_ids": np.full((1, 9), 384)}, "no meaning for"),
        ({"input_ids": np.full((1, 9), -1)}, "no meaning for"),
        ({"attention_mask": np.full((1, 9), 2)}, "no meaning for"),
        ({"global_attention_mask": np.full((1, 9), 5)}, "no meaning for"),
        ({"global_attention_mask": None}, "is missing"),
    ],
)
def test_runner_refuses_bad_inputs(change: dict[str, np.ndarray | None], words: str, exported: Export) -> None:
    bundle = exported("question-answering").bundle
    ones = np.ones((1, 9), np.int64)
    inputs = {"input_ids": ones * 5, "attention_mask": ones, "global_attention_mask": ones} | change
    inputs = {name: array for name, array in inputs.items() if array is not None}
    with open_runner(bundle.folder / "model.onnx", bundle.signature) as run, pytest.raises(ShapeError, match=words):
        run(inputs)


def test_runner_refuses_more_tokens_than_positions(exported: Export) -> None:
    bundle = exported("question-answering").bundle
    ones = np.ones((1, bundle.signature.max_tokens + 1), np.int64)
    inputs = {"input_ids": ones * 5, "attention_mask": ones, "global_attention_mask": ones}
    with open_runner(bundle.folder / "model.onnx", bundle.signature) as run, pytest.raises(ShapeError, match="longer"):
        run(inputs)


def test_file_that_is_no_model_is_named(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with (
        pytest.raises(InputError, match=r"cannot load model\.onnx"),
        open_runner(tmp_path / "model.onnx", exported("question-answering").bundle.signature),
    ):
        pass
