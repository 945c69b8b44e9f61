"""`--keep-fp32`: parts of a model that stay in float32, named or found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from conftest import GOLDEN

from lat_export.cli.model import model as model_command
from lat_export.dry_run import DryRun
from lat_export.errors import InputError, ParityError
from lat_export.onnx_file import save
from lat_export.ops import StaticBounds
from lat_export.pipeline import Exported, export
from lat_export.precision import ELEMENT_TYPES, chosen, convert, parts_of, weights_of_parts
from lat_export.precision.parts import Kept, part_of
from lat_export.remake import export_command
from lat_export.revalidation import revalidate
from lat_export.stages.float32_parts import MARGIN, needed, shortest
from lat_export.stages.graph import Graph
from lat_export.targets.half_on_cpu import compute_in_float32
from lat_export.targets.lowering import bounded
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.switched_roundings import SwitchedModel
from lat_export.types import ModelSpec
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.report import PASSED
from lat_export.validation.tolerance import RELATIVE_L2, Tolerance, Tolerances

HALVES = ("fp16", "bf16")
KINDS = ("query_key", "value_output", "feed_forward")
# A checkpoint that bfloat16 moves out of its band, of two layers or more.
SHARP = GOLDEN / "nystromformer" / "fill-mask" / "checkpoint"
SMALL = "question-answering"
Get = Callable[..., Exported]


def graph_of(exported: Get, family: str, task: str = SMALL) -> tuple[Graph, Golden]:
    """In float32."""
    bundle = exported(task, "onnx", family).bundle
    return Graph(bundle.folder / "model.onnx", bundle.manifest["lat_nodes"]), Golden(bundle.folder)


def layers_of(*kinds: str) -> tuple[str, ...]:
    return tuple(f"layer.{index}.{kind}" for index in range(3) for kind in kinds)


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("longformer", ("query_key", "value_output", "attention", "feed_forward")),
        # The policy has Nystroem's attention in float32 whatever is chosen.
        ("nystromformer", KINDS),
        ("yoso", ("query_key", "value_output", "attention", "feed_forward")),
    ],
)
def test_parts_of_every_family(family: str, kinds: tuple[str, ...], exported: Get) -> None:
    program = ir.load(graph_of(exported, family)[0].model)
    parts = parts_of(program)
    assert parts == ("embeddings", *layers_of(*kinds), "head")
    named = {str(node.name): part_of(node) for node in program.graph}
    assert named["layer.1.attention.self.key/MatMul"] == "layer.1.query_key"
    assert named["layer.1.attention.self.value/MatMul"] == "layer.1.value_output"
    assert named["layer.1.attention.output.dense/MatMul"] == "layer.1.value_output"
    assert named["layer.1.intermediate.dense/MatMul"] == named["layer.1.output.dense/MatMul"] == "layer.1.feed_forward"
    assert named["qa_outputs/MatMul"] == "head"


def test_names_mean_parts_layers_and_kinds() -> None:
    known = ("embeddings", *layers_of(*KINDS), "layer.10.query_key", "head")
    assert chosen(known, ["head", "layer.1.query_key"]) == ("layer.1.query_key", "head")
    assert chosen(known, ["layer.1"]) == tuple(f"layer.1.{kind}" for kind in KINDS)
    assert chosen(known, ["query_key"]) == tuple(f"layer.{index}.query_key" for index in (0, 1, 2, 10))
    assert chosen(known, []) == ()
    assert len(chosen(known, ["layer"])) == len(known) - 2
    for name in ("layer.7", "key", "query", "", "layer.1.query"):
        with pytest.raises(InputError, match="no such part in half precision") as caught:
            chosen(known, [name])
        assert "embeddings, layer.0.query_key" in str(caught.value.expected)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", ["longformer", "nystromformer", "yoso"])
def test_a_kept_part_is_in_float32_and_no_other(family: str, precision: str, exported: Get) -> None:
    graph, _ = graph_of(exported, family)
    half = ir.DataType[ELEMENT_TYPES[precision]]
    for kept in parts_of(ir.load(graph.model)):
        program = ir.load(graph.model)
        convert(program, precision, kept=(kept,))
        for node in program.graph:
            if (part := part_of(node)) is not None:
                types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
                assert (half in types) == (part != kept), node.name
                assert (ir.DataType.FLOAT in types) == (part == kept), node.name


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("family", ["longformer", "nystromformer", "yoso"])
def test_switches_compute_what_the_rewritten_model_computes(
    family: str, precision: str, exported: Get, tmp_path: Path
) -> None:
    graph, golden = graph_of(exported, family)
    switches = SwitchedModel(graph.model, golden.signature, precision, tmp_path)
    parts = switches.parts
    case = max(golden, key=lambda case: case.inputs["attention_mask"].size)
    whole = switches.run(case.inputs, parts)
    for kept in ((), parts, parts[::2], parts[1::2], parts[:4]):
        program = bounded(graph.model, StaticBounds())
        convert(program, precision, kept=kept)
        compute_in_float32(program, ir.DataType[ELEMENT_TYPES[precision]])
        save(program, tmp_path / "rounded.onnx")
        found = switches.run(case.inputs, kept)
        with open_runner(tmp_path / "rounded.onnx", golden.signature) as run:
            for name, wanted in run(case.inputs).items():
                moved = np.linalg.norm(wanted - whole[name])
                # Sums in another order may turn a rounding or two; as far as roundings move it, it is the same.
                assert np.linalg.norm(found[name] - wanted) <= 0.2 * moved + 1e-5 * np.linalg.norm(wanted)


def test_a_part_that_is_rounded_alone_moves_the_outputs(exported: Get, tmp_path: Path) -> None:
    graph, golden = graph_of(exported, "longformer")
    switches = SwitchedModel(graph.model, golden.signature, "bf16", tmp_path)
    case = max(golden, key=lambda case: case.inputs["attention_mask"].size)
    whole = switches.run(case.inputs, switches.parts)["start_logits"]
    for part in switches.parts:
        alone = switches.run(case.inputs, set(switches.parts) - {part})["start_logits"]
        assert np.linalg.norm(alone - whole) > 1e-4 * np.linalg.norm(whole), part


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, list[str]]:
    told: list[str] = []
    out = tmp_path_factory.mktemp("sharp") / "bundle"
    return export(ModelSpec(str(SHARP), "onnx", out, precision="bf16"), told.append), told


def test_parts_that_parity_needs_are_found_and_told(sharp: tuple[Exported, list[str]]) -> None:
    done, told = sharp
    assert done.report is not None
    assert done.report.verdict == PASSED
    kept = done.bundle.manifest["kept_in_fp32"]
    assert 0 < len(kept["parts"]) < kept["of"] == len(kept["alone"])
    assert kept["error"] <= MARGIN * RELATIVE_L2["bf16"] < RELATIVE_L2["bf16"] < kept["error_without"]
    assert not kept["asked"]
    assert done.bundle.kept_in_fp32 == tuple(kept["parts"])
    lines = [line for line in told if line.startswith("notice: ")]
    assert "every part in bf16 is too far from PyTorch" in lines[0]
    assert lines[1].startswith(f"notice: {max(kept['alone'], key=kept['alone'].get)} costs most")
    assert f"{len(kept['parts'])} of {kept['of']} parts stay in fp32" in lines[2]
    assert all(part in lines[2] for part in kept["parts"])
    assert not list(revalidate(done.bundle.folder).failures())


def test_the_same_parts_by_name_give_the_same_model(sharp: tuple[Exported, list[str]], tmp_path: Path) -> None:
    bundle = sharp[0].bundle
    spec = ModelSpec(str(SHARP), "onnx", tmp_path / "bundle", precision="bf16", keep_fp32=bundle.kept_in_fp32)
    done = export(replace(spec, validate=False))
    assert (tmp_path / "bundle" / "model.onnx").read_bytes() == (bundle.folder / "model.onnx").read_bytes()
    assert done.bundle.manifest["kept_in_fp32"]["asked"]
    assert export_command(spec).count(f"--keep-fp32 {','.join(bundle.kept_in_fp32)}") == 1
    assert "--keep-fp32 none" in export_command(replace(spec, keep_fp32=()))
    assert "--keep-fp32" not in export_command(replace(spec, keep_fp32=None))


def test_none_keeps_none_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    spec = ModelSpec(str(SHARP), "onnx", tmp_path / "bundle", precision="bf16", keep_fp32=())
    with pytest.raises(ParityError, match="does not compute what PyTorch computes") as caught:
        export(spec)
    assert "--keep-fp32 auto" in str(caught.value.hint)
    assert not (tmp_path / "bundle").exists()


def test_where_nothing_will_do_nothing_is_kept(exported: Get, tmp_path: Path) -> None:
    """The export ends as it would have without the search: validation says that parity is lost."""
    graph, golden = graph_of(exported, "yoso")
    told: list[str] = []
    judge = Judge(Tolerances((Tolerance(1e-9, "no rounding at all"),)), precision="bf16")
    kept = needed(graph, golden, judge, tmp_path, told.append)
    assert kept.parts == ()
    assert kept.error == kept.error_without > 1e-3
    assert set(kept.alone) == set(parts_of(ir.load(graph.model)))
    assert len(told) == 2


def test_parts_are_compared_by_short_cases(exported: Get) -> None:
    _, golden = graph_of(exported, "longformer")
    sizes = sorted(case.inputs["attention_mask"].size for case in golden)
    for most in (0, 100, sum(sizes)):
        found = sorted(case.inputs["attention_mask"].size for case in shortest(golden, most))
        assert found == sizes[: len(found)]
        assert len(found) == 1 or sum(found) <= most
        assert len(found) == len(sizes) or sum(sizes[: len(found) + 1]) > most


def test_a_dry_run_takes_the_names(examined: Callable[..., DryRun]) -> None:
    found = examined(SHARP, "trt", precision="bf16", keep_fp32=("layer.0", "head"))
    assert found.works
    with pytest.raises(InputError, match="no such part"):
        examined(SHARP, "trt", precision="bf16", keep_fp32=("layer.30",))


def test_a_dry_run_of_a_bundle_takes_none(examined: Callable[..., DryRun], sharp: tuple[Exported, list[str]]) -> None:
    with pytest.raises(InputError, match="are chosen already"):
        examined(sharp[0].bundle.folder, "trt", precision="bf16", keep_fp32=("head",))


def test_without_validation_nobody_is_asked(tmp_path: Path) -> None:
    told: list[str] = []
    spec = ModelSpec(str(SHARP), "onnx", tmp_path / "bundle", precision="bf16", validate=False)
    kept = export(spec, told.append).bundle.manifest["kept_in_fp32"]
    assert (kept["parts"], kept["asked"]) == ([], False)
    assert any("nothing asked which parts cannot be in bf16" in line for line in told)


def test_weights_that_are_transposed_count(exported: Get) -> None:
    """The decoder of a masked language model is as large as the embeddings."""
    program = ir.load(graph_of(exported, "yoso", "fill-mask")[0].model)
    weights = weights_of_parts(program)
    assert weights["head"] > weights["embeddings"] > 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--precision", "bf16", "--keep-fp32", "layer.9"], "the model has no such part in half precision"),
        (["--precision", "bf16", "--keep-fp32", ","], "is auto, none, or names"),
        (["--precision", "bf16", "--keep-fp32", "auto,head"], "is auto, none, or names"),
        (["--keep-fp32", "head"], "in fp32 there is nothing to keep"),
        (["--keep-fp32", "none"], "in fp32 there is nothing to keep"),
    ],
)
def test_names_that_mean_nothing_are_refused(words: list[str], what: str, tmp_path: Path) -> None:
    arguments = [str(SHARP), "--to", "onnx", "--out", str(tmp_path / "bundle"), "--no-validate", *words]
    with pytest.raises(InputError, match=what):
        CliRunner().invoke(model_command, arguments, catch_exceptions=False)
    assert not (tmp_path / "bundle").exists()


def test_the_command_line_gives_the_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("lat_export.pipeline.export", lambda spec, tell: asked.append(spec.keep_fp32) or 1 / 0)
    for text in (None, "auto", "none", "head, layer.0"):
        words = [] if text is None else ["--keep-fp32", text]
        arguments = [str(SHARP), "--to", "onnx", "--out", str(tmp_path), "--precision", "fp16", *words]
        CliRunner().invoke(model_command, arguments)
    assert asked == [None, None, (), ("head", "layer.0")]


def test_infinities_are_null_in_json() -> None:
    """JSON has none."""
    kept = Kept(("head",), 2, error=1e-3, error_without=float("inf"), alone={"head": float("inf"), "embeddings": 1e-4})
    written = json.loads(json.dumps(kept.to_json(), allow_nan=False))
    assert (written["error_without"], written["alone"]) == (None, {"head": None, "embeddings": 1e-4})
