"""The search for the first divergence: faults are planted in a graph of eight layers, and each is found at its node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
from families.small_checkpoint import small_checkpoint
from validation.planted_faults import FAMILIES, LAYERS, Made, attribute_changed, node_named, search_of, weight_changed

from lat_export.divergence import Search, chosen_case, other_side, search
from lat_export.errors import InputError
from lat_export.graph_steps import Step, Steps
from lat_export.pipeline import export
from lat_export.revalidation import validate_artifact
from lat_export.targets.onnx_values import OnnxValues
from lat_export.types import ModelSpec, Options
from lat_export.validation.bisect import Side, first_divergence
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.tolerance import RELATIVE_L2


@pytest.fixture(scope="module")
def right_side(layered: Made, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Side]:
    """`right_side(family, "checkpoint" or "bundle")`, traced once."""
    sides: dict[tuple[str, str], Side] = {}

    def get(family: str, other: str) -> Side:
        if (family, other) not in sides:
            golden = Golden(layered(family) / "bundle")
            sides[family, other] = other_side(layered(family) / other, None, golden, tmp_path_factory.mktemp("right"))
        return sides[family, other]

    return get


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


@pytest.mark.parametrize("other", ["checkpoint", "bundle"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_at_its_node(
    name: str, other: str, layered: Made, right_side: Callable[[str, str], Side], tmp_path: Path
) -> None:
    family, plant, layer, module = FAULTS[name]
    folder = layered(family)
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
def test_no_divergence_where_nothing_is_wrong(family: str, layered: Made) -> None:
    folder = layered(family)
    found = search_of(folder / "bundle", folder / "checkpoint", folder / "bundle")
    assert not found.found
    assert found.runs == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_by_layer_grow_from_rounding_to_the_fault(family: str, layered: Made, tmp_path: Path) -> None:
    folder = layered(family)
    model = ir.load(folder / "bundle" / "model.onnx")
    weight_changed("layer.4.output.dense/MatMul")(model)
    ir.save(model, tmp_path / "broken.onnx")
    wanted = Search(folder / "checkpoint", bisect=False, by_layer=True)
    layers = search(tmp_path / "broken.onnx", Golden(folder / "bundle"), wanted).layers
    assert [at.layer for at in layers] == [-1, *range(LAYERS)]
    assert all(at.relative_l2 < 1e-5 for at in layers[:5])
    assert all(at.relative_l2 > 1e-3 for at in layers[5:])


def test_options_of_the_bundle_hold_for_pytorch(layered: Made, tmp_path: Path) -> None:
    """`--semantics paper` is another model; PyTorch computes that one."""
    folder = layered("yoso")
    options = Options(semantics="paper")
    export(ModelSpec(str(folder / "checkpoint"), "onnx", tmp_path / "paper", options=options))
    assert not search_of(tmp_path / "paper", folder / "checkpoint", tmp_path / "paper").found
    found = search_of(tmp_path / "paper", folder / "bundle", tmp_path / "paper")
    assert found.found
    assert found.layer in (None, 0)


def test_weights_in_a_file_of_their_own(layered: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lat_export.onnx_file.EXTERNAL_DATA_ABOVE_BYTES", 1000)
    folder = layered("longformer")
    export(ModelSpec(str(folder / "checkpoint"), "onnx", tmp_path / "external"))
    assert (tmp_path / "external" / "model.onnx.data").is_file()
    assert not search_of(tmp_path / "external", folder / "checkpoint", tmp_path / "external").found


def test_a_checkpoint_of_another_model_is_refused(layered: Made) -> None:
    with pytest.raises(InputError, match="another model than the golden tensors"):
        search_of(layered("yoso") / "bundle", layered("longformer") / "checkpoint", layered("yoso") / "bundle")


def test_an_unknown_case_is_refused(layered: Made) -> None:
    folder = layered("yoso")
    with pytest.raises(InputError, match="no such case"):
        search_of(folder / "bundle", folder / "checkpoint", folder / "bundle", case="B=7")


def test_the_report_holds_what_was_found(layered: Made, tmp_path: Path) -> None:
    folder = layered("longformer")
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
