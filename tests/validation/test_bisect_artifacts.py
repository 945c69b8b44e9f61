"""The search in what a target made: onnxruntime's fused model with native nodes, and the graph of an engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
from validation.planted_faults import FAMILIES, LAYERS, Made, attribute_changed, node_named, search_of

from lat_export import native
from lat_export.digest import file_sha256
from lat_export.divergence import Search, search
from lat_export.errors import InputError, MissingError
from lat_export.pipeline import export
from lat_export.stages.bundle import MANIFEST_DIGEST_FILE, MANIFEST_FILE
from lat_export.targets import BuildPlan
from lat_export.targets.engine_values import EngineValues
from lat_export.targets.ort import OPTIMISED_MODEL
from lat_export.targets.trt_rtx import TARGET as TRT_RTX
from lat_export.types import ModelSpec, Range
from lat_export.validation.golden import Golden


def test_the_graph_given_to_an_engine_is_searched_too(layered: Made, tmp_path: Path) -> None:
    folder = layered("longformer")
    export(ModelSpec(str(folder / "checkpoint"), "trt-rtx", tmp_path / "rtx", sequence=Range(1, 32, 64)))
    found = search_of(tmp_path / "rtx", folder / "checkpoint", tmp_path / "rtx", form="graph")
    assert not found.found
    with pytest.raises(MissingError, match="no GPU"):
        search_of(tmp_path / "rtx", folder / "checkpoint", tmp_path / "rtx", form="engine")
    with pytest.raises(InputError, match="has no graph"):
        search_of(folder / "bundle", folder / "checkpoint", folder / "bundle", form="graph")


@pytest.fixture(scope="module")
def native_bundle(layered: Made, ort_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`native_bundle(family)`: exported with `--to ort`, so that onnxruntime's fused model has native nodes."""
    folders: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp("ort") / family
            export(ModelSpec(str(layered(family) / "checkpoint"), "ort", folders[family]))
        return folders[family]

    return get


def with_artifact_changed(bundle: Path, change: Callable[[ir.Model], None], out: Path) -> Path:
    """A copy whose model.ort.onnx was changed, with digests to match: as a wrong kernel would compute it."""
    shutil.copytree(bundle, out)
    model = ir.load(out / OPTIMISED_MODEL)
    change(model)
    ir.save(model, out / OPTIMISED_MODEL)
    manifest = json.loads((out / MANIFEST_FILE).read_text())
    manifest["files"][OPTIMISED_MODEL]["sha256"] = file_sha256(out / OPTIMISED_MODEL)
    (out / MANIFEST_FILE).write_text(json.dumps(manifest))
    (out / MANIFEST_DIGEST_FILE).write_text(f"{file_sha256(out / MANIFEST_FILE)}  {MANIFEST_FILE}\n")
    return out


def scale_doubled(name: str) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        node = node_named(model, name)
        node.attributes["scale"] = ir.AttrFloat32("scale", 2 * node.attributes["scale"].as_float())

    return change


WRONG_KERNELS = {
    "window": ("longformer", attribute_changed("layer.5.BandedWindowAttention", "window", 1), "layer.5.Banded"),
    "scale": ("longformer", scale_doubled("layer.2.GlobalTokenAttention"), "layer.2.GlobalTokenAttention"),
    "a hash bit": ("yoso", attribute_changed("layer.3.BernoulliExpectation", "hash_code_len", -1), "layer.3.Bernoulli"),
    "the inverse": ("nystromformer", attribute_changed("layer.6.NystromAttention", "per_head_init", 1), "layer.6.Nyst"),
}


@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_native_node_is_found_by_name(
    name: str, layered: Made, native_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """In the artifact of onnxruntime, among fused nodes that PyTorch does not have."""
    family, change, node = WRONG_KERNELS[name]
    wrong = with_artifact_changed(native_bundle(family), change, tmp_path / "wrong")
    found = search_of(wrong, layered(family) / "checkpoint", wrong, form="ort")
    assert found.found
    assert len(found.nodes) == 1
    assert node in found.nodes[0]
    assert f"layer.{found.layer}." in node
    assert "native ops" in found.sides[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_native_ops_agree_with_pytorch_after_every_layer(
    family: str, layered: Made, native_bundle: Callable[[str], Path]
) -> None:
    bundle = native_bundle(family)
    wanted = Search(layered(family) / "checkpoint", "ort", by_layer=True)
    found = search(bundle, Golden(bundle), wanted)
    assert found.divergence is not None
    assert not found.divergence.found
    assert OPTIMISED_MODEL in found.divergence.sides[0]
    assert [at.layer for at in found.layers] == [-1, *range(LAYERS)]
    assert all(at.relative_l2 < 1e-5 for at in found.layers)


def test_it_is_the_kernel_that_is_searched(layered: Made, ort_library: Path, tmp_path: Path) -> None:
    """A body that is wrong shows in the portable model, and not where the kernel runs in its place."""
    folder = layered("nystromformer")
    model = ir.load(folder / "bundle" / "model.onnx")
    (body,) = (body for body in model.functions.values() if body.name == "NystromAttention")
    next(node for node in body if node.op_type == "Softmax").op_type = "Sigmoid"
    body_softmax = next(node for node in body if node.op_type == "Sigmoid")
    body_softmax.attributes.clear()
    ir.save(model, tmp_path / "broken.onnx")
    golden = folder / "bundle"
    assert not search_of(tmp_path / "broken.onnx", folder / "checkpoint", golden, form="ort").found
    found = search_of(tmp_path / "broken.onnx", folder / "checkpoint", golden)
    assert found.nodes == ("lat::NystromAttention layer.0.NystromAttention",)


def test_without_native_ops_there_is_nothing_to_search(
    layered: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "none"))
    folder = layered("yoso")
    with pytest.raises(MissingError, match="native ops of ONNX Runtime are missing"):
        search_of(folder / "bundle", folder / "checkpoint", folder / "bundle", form="ort")


def test_the_command_finds_a_wrong_native_node(
    layered: Made, native_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    family, change, node = WRONG_KERNELS["window"]
    wrong = with_artifact_changed(native_bundle(family), change, tmp_path / "wrong")
    words = [
        "validate",
        wrong,
        "--bisect",
        layered(family) / "checkpoint",
        "--of",
        "ort",
        "--report",
        tmp_path / "r.json",
    ]
    command = [sys.executable, "-m", "lat_export", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "first divergence: layer 5" in done.stdout
    assert f"  lat::BandedWindowAttention {node}" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"] == "failed"
    assert report["divergence"]["nodes"] == ["lat::BandedWindowAttention layer.5.BandedWindowAttention"]


def test_an_engine_of_a_cut_is_built_without_a_gpu(layered: Made, tmp_path: Path) -> None:
    bundle = layered("yoso") / "bundle"
    signature = Golden(bundle).signature
    sizes = {"batch": Range(1, 1, 2), "sequence": Range(1, 16, 32)}
    side = EngineValues(TRT_RTX, bundle / "model.onnx", signature, BuildPlan(sizes), tmp_path)
    cut = side.steps.cut(len(side.steps.steps) // 2)
    wanted = [name for name in cut if name in side.values]
    engine, asked = side.build(wanted)
    assert engine.stat().st_size > 0
    assert [spec.name for spec in asked.outputs] == wanted
