"""`lat-export bench` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from click.testing import CliRunner
from conftest import GOLDEN

from lat_export import native
from lat_export.bench.given import given
from lat_export.bench.measure import FLOOR_SUBJECT, choose
from lat_export.bench.subjects import SUBJECTS
from lat_export.bench.sweep import Point, point_inputs, sweep
from lat_export.cli import cli
from lat_export.errors import InputError, LatExportError, ShapeError
from lat_export.pipeline import Exported
from lat_export.types import Signature

Export = Callable[..., Exported]
TASK = "feature-extraction"
# Its checkpoint lies below it by the name that the bundle's golden remembers.
HOME = GOLDEN / "longformer" / TASK


def bench(*arguments: str | Path, cwd: Path = HOME, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lat_export", "bench", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment}
    )


def crashing_model(path: Path) -> Path:
    """onnxruntime dies with SIGFPE of an Einsum that sums over a dimension of size 0."""
    ids = ir.Value(name="input_ids", shape=ir.Shape(["batch", "sequence"]), type=ir.TensorType(ir.DataType.INT64))
    numbers = {"from": [0], "to": [0], "axis": [1], "shape": [1, 2, 3, 0]}
    given = {name: ir.Value(name=name, const_value=ir.tensor(value, name=name)) for name, value in numbers.items()}
    cast = ir.node("Cast", [ids], {"to": ir.DataType.FLOAT})
    cut = ir.node("Slice", [cast.outputs[0], given["from"], given["to"], given["axis"]])
    nothing = ir.node("Reshape", [cut.outputs[0], given["shape"]], {"allowzero": 1})
    product = ir.node("Einsum", [nothing.outputs[0]] * 2, {"equation": "bhnd,bhgd->bhng"})
    out = product.outputs[0]
    out.name, out.shape, out.type = "out", ir.Shape([1, 2, 3, 3]), ir.TensorType(ir.DataType.FLOAT)
    nodes = [cast, cut, nothing, product]
    graph = ir.Graph([ids], [out], nodes=nodes, initializers=[*given.values()], name="x", opset_imports={"": 20})
    ir.save(ir.Model(graph, ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def measured(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All subjects at two lengths, three peers among them of which two fail."""
    folder = exported(TASK, "ort").bundle.folder
    files = tmp_path_factory.mktemp("files")
    good, damaged = files / "good.onnx", files / "damaged.onnx"
    shutil.copy(folder / "model.onnx", good)
    damaged.write_bytes(b"not a model")
    peers = [word for path in (good, damaged, crashing_model(files / "crashing.onnx")) for word in ("--peer", path)]
    places = ("--json", files / "bench.json", "--plot", files / "bench.svg")
    done = bench(folder, "--tokens", "32", "--tokens", "64,32", "--repeat", "3", "--threads", "1", *peers, *places)
    assert done.returncode == 0, done.stderr
    return {
        "json": json.loads((files / "bench.json").read_text()),
        "svg": ElementTree.parse(files / "bench.svg"),
        "stdout": done.stdout,
        "stderr": done.stderr,
    }


def whole(row: dict[str, Any]) -> bool:
    return row["error"] is None


def test_every_subject_is_measured(measured: dict[str, Any]) -> None:
    result = measured["json"]
    subjects = ["pytorch", "onnx", *(["ort"] if native.ort_library() else [])]
    peers = ["peer:good", "peer:damaged", "peer:crashing"]
    assert sorted(result["subjects"]) == sorted([*subjects, *peers])
    assert [point["tokens"] for point in result["points"]] == [32, 64]
    for point in result["points"]:
        assert (point["batch"], point["globals"], point["choices"], point["baseline"]) == (1, 0, None, "pytorch")
        rows = {row["subject"]: row for row in point["rows"]}
        assert sorted(name for name, row in rows.items() if whole(row)) == sorted([*subjects, "peer:good"])
        for name in (*subjects, "peer:good"):
            row = rows[name]
            assert len(row["seconds"]) == 3
            assert len(row["warm_up_s"]) == 1
            assert row["latency"]["median"] == sorted(row["seconds"])[1]
            assert row["latency"]["p90"] is row["latency"]["p99"] is None
            assert row["tokens_per_s"] == pytest.approx(point["tokens"] / row["latency"]["median"])
            assert row["over_floor"] == pytest.approx(row["latency"]["median"] / point["floor"]["seconds"])
            assert row["peak_bytes"] > 10_000_000
            assert row["above_weights_bytes"] >= 0
            assert row["relative_l2_to_baseline"] < 1e-5  # they compute the same
            assert row["faster_than_baseline"]["spread"] == "min to max"
        ratio = rows["onnx"]["faster_than_baseline"]
        paired = sorted(a / b for a, b in zip(rows["pytorch"]["seconds"], rows["onnx"]["seconds"], strict=True))
        assert [ratio["low"], ratio["median"], ratio["high"]] == paired


def test_one_that_fails_is_a_row_with_its_error(measured: dict[str, Any]) -> None:
    for point in measured["json"]["points"]:
        rows = {row["subject"]: row for row in point["rows"]}
        assert "onnxruntime cannot load damaged.onnx" in rows["peer:damaged"]["error"]
        assert rows["peer:crashing"]["error"] == "ended by SIGFPE"
        assert rows["peer:crashing"]["seconds"] == []
    assert "peer:crashing: error: ended by SIGFPE" in measured["stdout"]


def test_the_floor_is_of_the_models_linear_layers(measured: dict[str, Any]) -> None:
    for point in measured["json"]["points"]:
        floor = point["floor"]
        assert floor["shape"] == [point["tokens"], 32, 32]
        assert floor["operations"] == 3 * 2 * point["tokens"] * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 32 * 32
        assert floor["seconds"] == pytest.approx(floor["operations"] / floor["operations_per_s"])
        assert len(floor["product_s"]) == 3
    assert "floor: " in measured["stdout"]


def test_attention_has_its_time_and_share_in_every_form(measured: dict[str, Any]) -> None:
    for row in measured["json"]["points"][0]["rows"]:
        if row["subject"] in ("onnx", "ort", "peer:good"):
            shares = {op["op"]: op["share"] for op in row["ops"]}
            assert {"lat::BandedWindowAttention", "lat::GlobalTokenAttention", "MatMul"} <= set(shares)
            assert sum(shares.values()) == pytest.approx(1)
    assert "onnx: " in measured["stdout"]


def test_the_head_of_the_file_says_what_was_measured_where(measured: dict[str, Any]) -> None:
    result = measured["json"]
    assert result["schema"] == 1
    assert {"processor", "cores", "memory_gib", "system"} == set(result["machine"])
    assert {"torch", "transformers", "onnxruntime", "lat-export"} <= set(result["versions"])
    assert result["commit"] is None or len(result["commit"].split()[0]) == 40
    assert (result["instruction_set"] is None) == (native.ort_library() is None)
    assert len(result["load_average"]["before"]) == len(result["load_average"]["after"]) == 3
    assert result["model"]["family"] == "longformer"
    assert result["model"]["config"]["num_hidden_layers"] == 3
    assert result["settings"] == {"threads": 1, "warm_up": 1, "repeat": 3}
    assert "pytorch-compile" in result["left_out"]
    assert str(GOLDEN) not in json.dumps(result)


def test_the_plot_has_a_line_for_each_subject_and_the_floor(measured: dict[str, Any]) -> None:
    groups = [group for group in measured["svg"].iter("{http://www.w3.org/2000/svg}g") if group.get("id")]
    lines = [group.get("id") for group in groups if group.get("id", "").startswith(("subject-", "floor"))]
    assert sorted(lines) == sorted([*(f"subject-{name}" for name in measured["json"]["subjects"]), "floor"])
    texts = {text.text for text in measured["svg"].iter("{http://www.w3.org/2000/svg}text")}
    assert {"tokens N", "pytorch", "onnx", "floor: linear layers"} <= texts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tokens", "64,257"), ("longer than the checkpoint's position table", "N <= 256", "hint: --tokens 256")),
        (("--tokens", "64", "--globals", "65"), ("more global tokens than tokens",)),
        (("--tokens", "64", "--subject", "trt"), ("unknown subject 'trt'", "onnx, ")),
        (("--tokens", "64", "--subject", "onnx", "--baseline", "pytorch"), ("the baseline is not measured",)),
        (("--tokens", "0"), ("not a list of whole numbers of at least 1",)),
        (("--peer", "nowhere.onnx"), ("no such ONNX file",)),
        (("--checkpoint", str(GOLDEN / "longformer" / "fill-mask" / "checkpoint")), ("made from another checkpoint",)),
        (("--plot", "plot.pdf"), ("neither .svg nor .png",)),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(
    arguments: tuple[str, ...], words: tuple[str, ...], exported: Export, tmp_path: Path
) -> None:
    folder = exported(TASK, "ort").bundle.folder
    done = CliRunner().invoke(cli, ["bench", str(folder), *arguments, "--json", str(tmp_path / "bench.json")])
    error = done.exception if isinstance(done.exception, LatExportError) else None
    assert done.exit_code == 2 or (error is not None and error.exit_code == 2)
    for word in words:
        assert word in done.output + str(error)
    assert "load ..." not in done.output
    assert list(tmp_path.iterdir()) == []


def test_pytorch_needs_the_checkpoint(exported: Export, tmp_path: Path) -> None:
    folder = exported(TASK, "ort").bundle.folder
    done = bench(folder, "--subject", "pytorch", "--tokens", "32", "--json", tmp_path / "bench.json", cwd=tmp_path)
    assert done.returncode == 3
    assert "hint: name it with --checkpoint" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_measured_is_exit_code_1(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"not a model")
    folder, places = exported(TASK, "ort").bundle.folder, ("--json", tmp_path / "bench.json")
    done = bench(folder, "--tokens", "8", "--peer", tmp_path / "damaged.onnx", "--subject", "peer:damaged", *places)
    assert done.returncode == 1, done.stderr
    (row,) = json.loads((tmp_path / "bench.json").read_text())["points"][0]["rows"]
    assert "cannot load damaged.onnx" in row["error"]
    assert str(tmp_path) not in row["error"]


def opened(folder: Path, checkpoint: str | None = None) -> Any:
    return given(str(folder), checkpoint=checkpoint, task=None, peers=(), allow_pickle=False, tell=print)


def test_subjects_that_cannot_run_are_left_out_and_told(
    exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    with opened(exported(TASK, "ort").bundle.folder) as found:
        chosen, left_out = choose(found, ())
    assert [subject.name for subject in chosen] == ["onnx"]
    assert set(left_out) == {"pytorch", "pytorch-compile", "ort"}
    assert "lat-export plugins build" in left_out["ort"]


def test_help_names_every_kind_of_subject() -> None:
    text = CliRunner().invoke(cli, ["bench", "--help"]).output
    assert [name for name in SUBJECTS if name != FLOOR_SUBJECT and f"`{name}" not in text] == []


def test_torch_compile_is_measured_only_when_named(exported: Export) -> None:
    with opened(exported(TASK, "ort").bundle.folder, str(HOME / "checkpoint")) as found:
        chosen, left_out = choose(found, ())
        assert "pytorch" in [subject.name for subject in chosen]
        assert left_out["pytorch-compile"].startswith("only with --subject pytorch-compile: compiling takes")
        assert [subject.name for subject in choose(found, ("pytorch-compile",))[0]] == ["pytorch-compile"]


def signature_of(family: str, task: str) -> Signature:
    return Signature.from_json(json.loads((GOLDEN / family / task / "golden.json").read_text())["signature"])


def test_lengths_of_landmarks() -> None:
    signature = signature_of("nystromformer", TASK)
    with pytest.raises(ShapeError, match=r"(?s)multiple of the number of landmarks.*hint: --tokens 24"):
        sweep(signature, [17], [1], None)
    with pytest.raises(InputError, match="nystromformer has no global tokens"):
        sweep(signature, [16], [1], 1)
    assert [point.tokens for point in sweep(signature, [], [2, 1], None)] == [96, 96]


def test_a_sweep_goes_over_every_length_and_batch() -> None:
    signature = signature_of("longformer", "question-answering")
    points = sweep(signature, [64, 8], [2, 1], None)
    assert points == [Point(1, 8, None, 8), Point(2, 8, None, 8), Point(1, 64, None, 16), Point(2, 64, None, 16)]
    inputs = point_inputs(signature, points[-1])
    assert inputs["attention_mask"].all()
    assert inputs["global_attention_mask"].sum(axis=1).tolist() == [16, 16]
