"""`lat-export inspect ENGINE` and `lat-export refit`: as far as this machine can, and with a TensorRT that is played.

The played module (tests/tensorrt_api/played) is not TensorRT: it shows that the calls exist in real versions, come in
order, and that the files land where they should.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from click.testing import CliRunner
from conftest import GOLDEN, ROOT
from safetensors.torch import load_file, save_file

from lat_export import engine_inspection, refitting
from lat_export.cli.inspect import inspect
from lat_export.cli.refit import refit as refit_command
from lat_export.engine_inspection import ENGINE, NETWORK, inspect_engine
from lat_export.engine_options import EngineOptions
from lat_export.environment import gpu_count
from lat_export.errors import InputError, LatExportError, MissingError, ParityError
from lat_export.pipeline import Exported, export
from lat_export.refitting import demand_same_graph, refit
from lat_export.stages.bundle import read_bundle
from lat_export.targets import TARGETS
from lat_export.types import ModelSpec, Range

PLAYED = ROOT / "tests" / "tensorrt_api" / "played"
CHECKPOINT = GOLDEN / "yoso" / "text-classification" / "checkpoint"
NEWEST = "11.4.0.106"
RTX_LACK = TARGETS["trt-rtx"].missing()
needs_rtx = pytest.mark.skipif(RTX_LACK is not None, reason=f"TensorRT-RTX is missing: {RTX_LACK}")
no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
Make = Callable[..., Path]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU and the newest TensorRT, both played."""
    if TARGETS["trt"].missing() is None:
        pytest.skip("TensorRT itself is installed here")
    monkeypatch.syspath_prepend(PLAYED)
    monkeypatch.setenv("PYTHONPATH", str(PLAYED), prepend=":")
    monkeypatch.setenv("PLAYED_GPU", "1")
    monkeypatch.setenv("LAT_EXPORT_PLUGINS", "/nowhere")
    for module in (engine_inspection, refitting):
        monkeypatch.setattr(module, "gpu_count", lambda: 1)


@pytest.fixture
def built(played: None, tmp_path: Path) -> Make:
    """`built(strip_weights=True)`: the engine of a bundle."""

    def make(precision: str = "fp32", keep_fp32: tuple[str, ...] | None = None, **options: Any) -> Path:
        sizes = {"sequence": Range(1, 8, 16), "batch": Range(1, 1, 2)}
        out = tmp_path / "bundle"
        engine = EngineOptions(**options)
        asked = {"precision": precision, "keep_fp32": keep_fp32, "validate": False}
        export(ModelSpec(str(CHECKPOINT), "trt", out, engine=engine, **asked, **sizes))
        return out / "model.trt.engine"

    return make


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same architecture with other weights."""
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "other"))
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.25 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


@needs_rtx
@no_gpu
def test_rtx_engine_is_told_by_its_bundle_without_a_gpu(exported: Callable[..., Exported]) -> None:
    folder = exported("text-classification", "trt-rtx").bundle.folder
    facts = inspect_engine(folder / "model.trt-rtx.engine")
    assert facts.library.startswith("TensorRT-RTX 1.")
    assert facts.told_by == ("the bundle's manifest, and what the build kept: no GPU to open the engine on",)
    assert [(one["name"], one["is"]) for one in facts.bindings][-1] == ("logits", "output")
    assert facts.profiles == [{"batch": "1:1:8", "sequence": "1:256:256"}]
    assert facts.layers_are == NETWORK
    assert ("MATRIX_MULTIPLY", "FLOAT") in {(kind, precision) for kind, precision, _ in facts.layers_by_precision}
    assert any("layer.0.BandedWindowAttention" in layer["name"] or "MatMul" in layer["name"] for layer in facts.layers)
    assert facts.memory["Total Activation Memory"] > 0
    assert facts.plugins == []
    printed = CliRunner().invoke(inspect, [str(folder / "model.trt-rtx.engine")])
    for words in (
        "binding",
        "profile 0: batch 1:1:8",
        "lat nodes that plugins run: none",
        "before the builder fused it",
    ):
        assert words in printed.output
    data = json.loads(CliRunner().invoke(inspect, [str(folder / "model.trt-rtx.engine"), "--json"]).output)
    assert len(data["engine"]["layers"]) == len(facts.layers) > 100


@needs_rtx
@no_gpu
def test_engine_alone_tells_nothing_without_a_gpu(exported: Callable[..., Exported], tmp_path: Path) -> None:
    engine = exported("text-classification", "trt-rtx").bundle.folder / "model.trt-rtx.engine"
    alone = Path(shutil.copy(engine, tmp_path / "alone.engine"))
    with pytest.raises(MissingError, match="no bundle is around it") as caught:
        inspect_engine(alone)
    assert "no GPU to open the engine on" in str(caught.value)


@needs_rtx
def test_engine_of_a_changed_bundle_is_refused(exported: Callable[..., Exported], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported("text-classification", "trt-rtx").bundle.folder, tmp_path / "copy"))
    with (folder / "model.trt-rtx.engine").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ParityError):
        inspect_engine(folder / "model.trt-rtx.engine")


def test_engine_that_opens_tells_itself(built: Make, tmp_path: Path) -> None:
    engine = built(profiling_verbosity="detailed")
    facts = inspect_engine(engine)
    assert facts.told_by == ("the engine itself", "the bundle's manifest")
    assert facts.library == f"TensorRT {NEWEST}"
    assert facts.layers_are == ENGINE
    assert facts.layers
    assert facts.profiles == [{name: [[1, 1], [1, 8], [2, 16]] for name in ("input_ids", "attention_mask")}]
    assert facts.memory == {"Device Memory": 4096}
    assert facts.options == {"profiling_verbosity": "detailed"}
    alone = Path(shutil.copy(engine, tmp_path / "alone.plan"))
    assert inspect_engine(alone).told_by == ("the engine itself",)
    assert "profile 0: input_ids 1x1 to 2x16" in CliRunner().invoke(inspect, [str(alone)]).output


def test_file_that_is_no_engine_is_refused(played: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its library is not known, so both are asked."""
    monkeypatch.setattr(TARGETS["trt-rtx"], "module", "no_such_module")
    (tmp_path / "x.engine").write_bytes(b'{"played": "10.8", "layers": [], "plugins_to_serialize": []}')
    with pytest.raises(LatExportError, match="played: this engine does not deserialise"):
        inspect_engine(tmp_path / "x.engine")


@pytest.mark.parametrize(
    "options",
    [
        {"strip_weights": True},
        {"refittable": True},
        {"strip_weights": True, "precision": "fp16"},
        {"strip_weights": True, "precision": "bf16", "keep_fp32": ("layer.1", "head")},
    ],
    ids=str,
)
def test_the_same_checkpoint_fits_every_refittable_engine(options: dict[str, Any], built: Make, tmp_path: Path) -> None:
    engine, out = built(**options), tmp_path / "model.engine"
    done = refit(engine, str(CHECKPOINT), out)
    plan = json.loads(out.read_bytes())
    assert plan["refitted"]
    assert plan["refitted_from"] == "trt.onnx"  # the lowered graph, as it was given to the builder
    assert plan["written_with"] == ["INCLUDE_REFIT"]  # and no EXCLUDE_WEIGHTS
    assert (done.bytes, done.library) == (out.stat().st_size, f"TensorRT {NEWEST}")
    with pytest.raises(InputError, match="is there already"):
        refit(engine, str(CHECKPOINT), out)
    assert not list(tmp_path.glob(".model*"))


def test_engine_without_weights_is_never_run(built: Make, tmp_path: Path) -> None:
    """On any machine: what it would compute means nothing."""
    bundle = read_bundle(built(strip_weights=True).parent)
    subject = TARGETS["trt"].subjects(bundle.folder, bundle.signature, bundle.plan, tmp_path)[2]
    with pytest.raises(MissingError, match="has no weights: lat-export refit"):
        subject.open()


def test_other_weights_fit_an_engine_that_takes_any(built: Make, other: Path, tmp_path: Path) -> None:
    refit(built(strip_weights=True, refittable=True), str(other), tmp_path / "model.engine")
    assert (tmp_path / "model.engine").is_file()


def test_other_weights_do_not_fit_an_engine_that_is_built_upon_its_own(
    built: Make, other: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not those that the engine was built from") as caught:
        refit(built(strip_weights=True), str(other), tmp_path / "model.engine")
    assert "--strip-weights --refittable" in str(caught.value.hint)
    assert not (tmp_path / "model.engine").exists()


def test_what_does_not_fit_is_refused_before_a_gpu_is_asked_for(
    built: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = built(refittable=True)
    monkeypatch.setattr(refitting, "gpu_count", lambda: 0)
    wider = Path(shutil.copytree(CHECKPOINT, tmp_path / "wider"))
    config = json.loads((wider / "config.json").read_text())
    (wider / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
    with pytest.raises(InputError, match="another graph than the engine was built from"):
        refit(engine, str(wider), tmp_path / "out")
    with pytest.raises(InputError, match="another model than the engine: family differs"):
        refit(engine, str(GOLDEN / "nystromformer" / "text-classification" / "checkpoint"), tmp_path / "out")
    with pytest.raises(MissingError, match="an engine is refitted on a GPU") as caught:
        refit(engine, str(CHECKPOINT), tmp_path / "out")
    assert "that the checkpoint fits the engine was checked" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_engine_that_is_not_refittable_is_refused(built: Make, tmp_path: Path) -> None:
    engine = built()
    with pytest.raises(InputError, match="not built to be refitted"):
        refit(engine, str(CHECKPOINT), tmp_path / "out")
    with pytest.raises(InputError, match="no such engine"):
        refit(tmp_path / "none.engine", str(CHECKPOINT), tmp_path / "out")
    with pytest.raises(InputError, match="in no bundle"):
        refit(Path(shutil.copy(engine, tmp_path / "alone.engine")), str(CHECKPOINT), tmp_path / "out")
    with pytest.raises(InputError, match="not the bundle's engine"):
        refit(engine.parent / "model.onnx", str(CHECKPOINT), tmp_path / "out")


@pytest.mark.parametrize("change", ["weight shape", "node", "attribute", "fewer nodes"])
def test_another_graph_is_named(change: str, exported: Callable[..., Exported], tmp_path: Path) -> None:
    path = exported("text-classification", "onnx", "yoso").bundle.folder / "model.onnx"
    demand_same_graph(path, path, same_weights=True)
    model = ir.load(path)
    nodes = list(model.graph)
    gelu = next(node for node in nodes if node.op_type == "Gelu")
    if change == "weight shape":
        value = next(value for value in model.graph.initializers.values() if value.const_value is not None)
        value.const_value = ir.tensor(torch.zeros(3).numpy(), name=value.name)
    elif change == "node":
        gelu.op_type = "Relu"
    elif change == "attribute":
        gelu.attributes["approximate"] = ir.AttrString("approximate", "tanh")
    else:
        model.graph.outputs[:] = [gelu.outputs[0]]
        model.graph.remove(nodes[nodes.index(gelu) + 1 :][::-1])
    ir.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="another graph"):
        demand_same_graph(path, tmp_path / "other.onnx", same_weights=False)


def test_command_tells_what_it_takes() -> None:
    text = CliRunner().invoke(refit_command, ["--help"]).output
    assert "It needs a GPU" in " ".join(text.split())
