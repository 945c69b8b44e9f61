"""The search for the first divergence: faults are planted in a graph of eight layers, and each is found at its node."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
from families.small_checkpoint import small_checkpoint

from lat_export import native
from lat_export.digest import file_sha256
from lat_export.divergence import Search, chosen_case, other_side, search
from lat_export.errors import InputError, MissingError
from lat_export.graph_steps import Step, Steps
from lat_export.pipeline import export
from lat_export.revalidation import validate_artifact
from lat_export.stages.bundle import MANIFEST_DIGEST_FILE, MANIFEST_FILE
from lat_export.targets import BuildPlan
from lat_export.targets.engine_values import EngineValues
from lat_export.targets.onnx_values import OnnxValues
from lat_export.targets.ort import OPTIMISED_MODEL
from lat_export.targets.trt_rtx import TARGET as TRT_RTX
from lat_export.types import ModelSpec, Options, Range
from lat_export.validation.bisect import Side, first_divergence
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.report import Divergence
from lat_export.validation.tolerance import RELATIVE_L2

LAYERS = 8
FAMILIES = {
    "longformer": {"attention_window": [8] * LAYERS},
    "yoso": {},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 64, "conv_kernel_size": 5},
}
Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """`made(family)`: a folder with `checkpoint` and, of it, `bundle`."""
    folders: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp(family)
            small_checkpoint(folder / "checkpoint", family, num_hidden_layers=LAYERS, **FAMILIES[family])
            export(ModelSpec(str(folder / "checkpoint"), "onnx", folder / "bundle"))
            folders[family] = folder
        return folders[family]

    return get


@pytest.fixture(scope="module")
def right_side(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Side]:
    """`right_side(family, "checkpoint" or "bundle")`, traced once."""
    sides: dict[tuple[str, str], Side] = {}

    def get(family: str, other: str) -> Side:
        if (family, other) not in sides:
            golden = Golden(made(family) / "bundle")
            sides[family, other] = other_side(made(family) / other, None, golden, tmp_path_factory.mktemp("right"))
        return sides[family, other]

    return get


def node_named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def weight_changed(name: str) -> Callable[[ir.Model], None]:
    """One number of the weight that a node takes."""

    def change(model: ir.Model) -> None:
        node = node_named(model, name)
        weight = next(value for value in node.inputs if value.const_value is not None)
        array = weight.const_value.numpy().copy()
        array.flat[array.size // 2] += 0.5
        own = ir.Value(name=f"changed {name}", const_value=ir.tensor(array), shape=weight.shape, type=weight.type)
        model.graph.register_initializer(own)  # the exporter shares weights that are alike
        node.replace_input_with(list(node.inputs).index(weight), own)

    return change


def attribute_changed(name: str, attribute: str, by: int) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        node = node_named(model, name)
        node.attributes[attribute] = ir.AttrInt64(attribute, node.attributes[attribute].as_int() + by)

    return change


def op_replaced(name: str, op_type: str) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        node_named(model, name).op_type = op_type

    return change


FAULTS = {
    "a weight of layer 5": ("longformer", weight_changed("layer.5.output.dense/MatMul"), 5, "layer.5.output.dense"),
    "a weight of the first layer": (
        "longformer",
        weight_changed("layer.0.attention.self.key/MatMul"),
        0,
        "layer.0.attention.self.key",
    ),
    "window off by one in layer 5": (
        "longformer",
        attribute_changed("layer.5.BandedWindowAttention", "window", 1),
        5,
        "layer.5.BandedWindowAttention",
    ),
    "a normalisation of the last layer": (
        "longformer",
        weight_changed("layer.7.output.LayerNorm/LayerNormalization"),
        7,
        "layer.7.output.LayerNorm",
    ),
    "the embeddings": (
        "yoso",
        weight_changed("embeddings.LayerNorm/LayerNormalization"),
        None,
        "embeddings.LayerNorm",
    ),
    "a hash bit less in layer 3": (
        "yoso",
        attribute_changed("layer.3.BernoulliExpectation", "hash_code_len", -1),
        3,
        "layer.3.BernoulliExpectation",
    ),
    "the start of the inverse in layer 6": (
        "nystromformer",
        attribute_changed("layer.6.NystromAttention", "per_head_init", 1),
        6,
        "layer.6.NystromAttention",
    ),
    "a residual subtracted": (
        "nystromformer",
        op_replaced("layer.2.attention.output/Add", "Sub"),
        2,
        "layer.2.attention.output/",
    ),
}


def search_of(broken: Path, other: Path, golden: Path, **options: object) -> Divergence:
    found = search(broken, Golden(golden), Search(other, **options)).divergence  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("other", ["checkpoint", "bundle"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_at_its_node(
    name: str, other: str, made: Made, right_side: Callable[[str, str], Side], tmp_path: Path
) -> None:
    family, plant, layer, module = FAULTS[name]
    folder = made(family)
    model = ir.load(folder / "bundle" / "model.onnx")
    plant(model)
    ir.save(model, tmp_path / "broken.onnx")
    case = chosen_case(Golden(folder / "bundle"), None, None)
    sides = (OnnxValues(tmp_path / "broken.onnx"), right_side(family, other))
    found = first_divergence(sides, case.inputs, RELATIVE_L2["fp32"], case.case.name)
    assert found.found
    assert found.layer == layer
    assert any(module in node for node in found.nodes)
    # PyTorch names a linear layer's sum, not its product; two ONNX graphs share every value but of a changed node.
    assert len(found.nodes) <= 2
    assert found.error_before <= found.band < found.error_after
    nodes = len(ir.load(folder / "bundle" / "model.onnx").graph)
    assert found.runs <= math.ceil(math.log2(nodes)) + 2
    assert max(len(probe.values) for probe in found.probes) <= 8


@pytest.mark.parametrize("family", FAMILIES)
def test_no_divergence_where_nothing_is_wrong(family: str, made: Made) -> None:
    folder = made(family)
    found = search_of(folder / "bundle", folder / "checkpoint", folder / "bundle")
    assert not found.found
    assert found.runs == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_by_layer_grow_from_rounding_to_the_fault(family: str, made: Made, tmp_path: Path) -> None:
    folder = made(family)
    model = ir.load(folder / "bundle" / "model.onnx")
    weight_changed("layer.4.output.dense/MatMul")(model)
    ir.save(model, tmp_path / "broken.onnx")
    wanted = Search(folder / "checkpoint", bisect=False, by_layer=True)
    layers = search(tmp_path / "broken.onnx", Golden(folder / "bundle"), wanted).layers
    assert [at.layer for at in layers] == [-1, *range(LAYERS)]
    assert all(at.relative_l2 < 1e-5 for at in layers[:5])
    assert all(at.relative_l2 > 1e-3 for at in layers[5:])


def test_the_graph_given_to_an_engine_is_searched_too(made: Made, tmp_path: Path) -> None:
    folder = made("longformer")
    export(ModelSpec(str(folder / "checkpoint"), "trt-rtx", tmp_path / "rtx", sequence=Range(1, 32, 64)))
    found = search_of(tmp_path / "rtx", folder / "checkpoint", tmp_path / "rtx", form="graph")
    assert not found.found
    with pytest.raises(MissingError, match="no GPU"):
        search_of(tmp_path / "rtx", folder / "checkpoint", tmp_path / "rtx", form="engine")
    with pytest.raises(InputError, match="has no graph"):
        search_of(folder / "bundle", folder / "checkpoint", folder / "bundle", form="graph")


@pytest.fixture(scope="module")
def native_bundle(made: Made, ort_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`native_bundle(family)`: exported with `--to ort`, so that onnxruntime's fused model has native nodes."""
    folders: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp("ort") / family
            export(ModelSpec(str(made(family) / "checkpoint"), "ort", folders[family]))
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
    name: str, made: Made, native_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """In the artifact of onnxruntime, among fused nodes that PyTorch does not have."""
    family, change, node = WRONG_KERNELS[name]
    wrong = with_artifact_changed(native_bundle(family), change, tmp_path / "wrong")
    found = search_of(wrong, made(family) / "checkpoint", wrong, form="ort")
    assert found.found
    assert len(found.nodes) == 1
    assert node in found.nodes[0]
    assert f"layer.{found.layer}." in node
    assert "native ops" in found.sides[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_native_ops_agree_with_pytorch_after_every_layer(
    family: str, made: Made, native_bundle: Callable[[str], Path]
) -> None:
    bundle = native_bundle(family)
    wanted = Search(made(family) / "checkpoint", "ort", by_layer=True)
    found = search(bundle, Golden(bundle), wanted)
    assert found.divergence is not None
    assert not found.divergence.found
    assert OPTIMISED_MODEL in found.divergence.sides[0]
    assert [at.layer for at in found.layers] == [-1, *range(LAYERS)]
    assert all(at.relative_l2 < 1e-5 for at in found.layers)


def test_it_is_the_kernel_that_is_searched(made: Made, ort_library: Path, tmp_path: Path) -> None:
    """A body that is wrong shows in the portable model, and not where the kernel runs in its place."""
    folder = made("nystromformer")
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
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "none"))
    folder = made("yoso")
    with pytest.raises(MissingError, match="native ops of ONNX Runtime are missing"):
        search_of(folder / "bundle", folder / "checkpoint", folder / "bundle", form="ort")


def test_the_command_finds_a_wrong_native_node(
    made: Made, native_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    family, change, node = WRONG_KERNELS["window"]
    wrong = with_artifact_changed(native_bundle(family), change, tmp_path / "wrong")
    words = ["validate", wrong, "--bisect", made(family) / "checkpoint", "--of", "ort", "--report", tmp_path / "r.json"]
    command = [sys.executable, "-m", "lat_export", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "first divergence: layer 5" in done.stdout
    assert f"  lat::BandedWindowAttention {node}" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["verdict"] == "failed"
    assert report["divergence"]["nodes"] == ["lat::BandedWindowAttention layer.5.BandedWindowAttention"]


def test_an_engine_of_a_cut_is_built_without_a_gpu(made: Made, tmp_path: Path) -> None:
    bundle = made("yoso") / "bundle"
    signature = Golden(bundle).signature
    sizes = {"batch": Range(1, 1, 2), "sequence": Range(1, 16, 32)}
    side = EngineValues(TRT_RTX, bundle / "model.onnx", signature, BuildPlan(sizes), tmp_path)
    cut = side.steps.cut(len(side.steps.steps) // 2)
    wanted = [name for name in cut if name in side.values]
    engine, asked = side.build(wanted)
    assert engine.stat().st_size > 0
    assert [spec.name for spec in asked.outputs] == wanted


def test_options_of_the_bundle_hold_for_pytorch(made: Made, tmp_path: Path) -> None:
    """`--semantics paper` is another model; PyTorch computes that one."""
    folder = made("yoso")
    options = Options(semantics="paper")
    export(ModelSpec(str(folder / "checkpoint"), "onnx", tmp_path / "paper", options=options))
    assert not search_of(tmp_path / "paper", folder / "checkpoint", tmp_path / "paper").found
    found = search_of(tmp_path / "paper", folder / "bundle", tmp_path / "paper")
    assert found.found
    assert found.layer in (None, 0)


def test_weights_in_a_file_of_their_own(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lat_export.onnx_file.EXTERNAL_DATA_ABOVE_BYTES", 1000)
    folder = made("longformer")
    export(ModelSpec(str(folder / "checkpoint"), "onnx", tmp_path / "external"))
    assert (tmp_path / "external" / "model.onnx.data").is_file()
    assert not search_of(tmp_path / "external", folder / "checkpoint", tmp_path / "external").found


def test_a_checkpoint_of_another_model_is_refused(made: Made) -> None:
    with pytest.raises(InputError, match="another model than the golden tensors"):
        search_of(made("yoso") / "bundle", made("longformer") / "checkpoint", made("yoso") / "bundle")


def test_an_unknown_case_is_refused(made: Made) -> None:
    folder = made("yoso")
    with pytest.raises(InputError, match="no such case"):
        search_of(folder / "bundle", folder / "checkpoint", folder / "bundle", case="B=7")


def test_the_report_holds_what_was_found(made: Made, tmp_path: Path) -> None:
    folder = made("longformer")
    model = ir.load(folder / "bundle" / "model.onnx")
    weight_changed("layer.5.output.dense/MatMul")(model)
    ir.save(model, tmp_path / "broken.onnx")
    wanted = Search(folder / "checkpoint", by_layer=True)
    report = validate_artifact(tmp_path / "broken.onnx", folder / "bundle", None, Judge(), wanted)
    assert report.parity_lost
    data = report.to_json()
    assert data["divergence"]["layer"] == 5
    assert len(data["subjects"][0]["layers"]) == LAYERS + 1


# A graph by hand: two branches from one input, joined. y = (x + 1) * (x - 1).
BRANCHES = Steps(
    (
        Step("plus", "Add", (), ("p",)),
        Step("minus", "Sub", (), ("m",)),
        Step("double", "Mul", ("m",), ("d",)),
        Step("join", "Mul", ("p", "d"), ("y",)),
    ),
    ("y",),
)


def side(name: str, fault: str | None) -> SimpleNamespace:
    def call(inputs: dict[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        x = inputs["x"]
        found = {"p": x + 1 + (fault == "plus")}
        found["m"] = x - 1 + (fault == "minus")
        found["d"] = found["m"] * (2 + (fault == "double"))
        found["y"] = found["p"] * found["d"] + (fault == "join")
        return {value: found[value] for value in wanted}

    call.name, call.steps, call.values = name, BRANCHES, frozenset("pmdy")  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


@pytest.mark.parametrize("fault", ["plus", "minus", "double", "join"])
def test_a_fault_in_a_branch_is_not_hidden_by_the_other(fault: str) -> None:
    sides = (side("broken", fault), side("right", None))
    found = first_divergence(sides, {"x": np.arange(5.0)}, 1e-6, "by hand")  # type: ignore[arg-type]
    assert [node.split()[1] for node in found.nodes] == [fault]


def test_cuts_are_what_the_rest_can_see() -> None:
    assert [BRANCHES.cut(position) for position in range(5)] == [(), ("p",), ("p", "m"), ("p", "d"), ("y",)]


def test_flip_rates_of_sampled_attention(tmp_path: Path) -> None:
    """None against PyTorch in float32 here; some against a graph whose queries are bfloat16 in one layer."""
    config = {"use_expectation": False, "num_hash": 16, "hash_code_len": 6}
    checkpoint = small_checkpoint(tmp_path / "made", "yoso", **config)
    export(ModelSpec(str(checkpoint), "onnx", tmp_path / "bundle"))
    golden = Golden(tmp_path / "bundle")
    assert search(tmp_path / "bundle", golden, Search(checkpoint)).flip_rates == {
        "layer.0.LshCumulation": 0.0,
        "layer.1.LshCumulation": 0.0,
    }
    model = ir.load(tmp_path / "bundle" / "model.onnx")
    node = node_named(model, "layer.1.attention.self.query/Add")
    uses = list(node.outputs[0].uses())
    half = ir.node("Cast", [node.outputs[0]], {"to": ir.DataType.BFLOAT16})
    whole = ir.node("Cast", [half.outputs[0]], {"to": ir.DataType.FLOAT})
    model.graph.insert_after(node, [half, whole])
    for user, index in uses:
        user.replace_input_with(index, whole.outputs[0])
    whole.outputs[0].name, node.outputs[0].name = node.outputs[0].name, "in float32"
    ir.save(model, tmp_path / "half.onnx")
    flips = search(tmp_path / "half.onnx", golden, Search(checkpoint)).flip_rates
    assert flips["layer.0.LshCumulation"] == 0.0
    # A rounding of 2^-9 moves a sign with a probability of about 2^-9 / pi, a code of 6 of them 6 times that.
    assert 0 < flips["layer.1.LshCumulation"] < 2e-2
