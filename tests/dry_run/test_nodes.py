"""Nodes by the parser's rules, and what it demands of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from dry_run.graphs import FLOAT, INT64, banded_model, errors, only_error, plugin_folder, rows, tensor, write
from onnx import TensorProto, helper, numpy_helper

from lat_export.dry_run import DryRun
from lat_export.dry_run.importers import importers
from lat_export.errors import InputError
from lat_export.ops import OPS, StaticBounds
from lat_export.targets.tensorrt_target import MOST_GLOBALS
from lat_export.types import Range

pytestmark = pytest.mark.usefixtures("no_plugins")

Examined = Callable[..., DryRun]
node = helper.make_node


def one_node(path: Path, op: str, inputs: list[str], constants: dict[str, object], **attributes: object) -> Path:
    """`op` over x [batch, sequence, 8] and constants."""
    return write(
        path,
        [node(op, inputs, ["y"], name="victim", **attributes)],
        [rows("x", 8)],
        [onnx.helper.make_empty_tensor_value_info("y")],
        initializer=[numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )


def test_unknown_op_is_named_with_its_mend(examined: Examined, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [node("Relu", ["x"], ["h"]), node("NoSuchOp", ["h"], ["y"], name="the_victim")],
        [rows("x", 8)],
        [rows("y", 8)],
    )
    for target in ("trt", "trt-rtx"):
        finding = only_error(examined(path, target))
        assert (finding.rule, finding.node, finding.got) == ("unknown op", "the_victim", "NoSuchOp")
        assert "local function" in finding.mend
    assert examined(path).to_json()["counts"] == {"plugin": 0, "built-in": 1, "local function": 0, "unknown": 1}


def test_unknown_op_in_a_function_body_is_named_by_its_caller(examined: Examined, tmp_path: Path) -> None:
    path = banded_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    next(inner for inner in model.functions[0].node if inner.op_type == "Softmax").op_type = "NoSuchOp"
    model.functions[0].domain, model.graph.node[0].domain = "theirs", "theirs"  # ours would be written anew
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    path.write_bytes(model.SerializeToString())
    found = examined(path)
    unknown = [finding for finding in errors(found) if finding.rule == "unknown op"]
    assert [finding.node.startswith("attention/NoSuchOp") for finding in unknown] == [True]
    assert [kept.kind for kept in found.nodes if not kept.in_body] == ["local function"]


def test_node_of_onnxruntime_has_a_mend_of_its_own(examined: Examined, tmp_path: Path) -> None:
    fused = node("FusedMatMul", ["x", "x"], ["y"], name="fused", domain="com.microsoft")
    finding = only_error(examined(write(tmp_path / "m.onnx", [fused], [rows("x", 8)], [rows("y", 8)])))
    assert "model.onnx" in finding.mend


def test_parser_looks_at_no_domain(examined: Examined, tmp_path: Path) -> None:
    gelu = node("Gelu", ["x"], ["y"], name="g", domain="com.microsoft")
    path = write(tmp_path / "m.onnx", [gelu], [rows("x", 8)], [rows("y", 8)])
    model = onnx.load(path)  # not even at a local function of that very domain and name
    body, opsets = [node("NoSuchOp", ["a"], ["b"])], [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("com.microsoft", "Gelu", ["a"], ["b"], body, opsets))
    path.write_bytes(model.SerializeToString())
    found = examined(path)
    assert [kept.kind for kept in found.nodes] == ["built-in"]
    assert found.works
    assert [(f.rule, f.node) for f in found.findings if f.severity == "warning"] == [("name of a standard op", "g")]


def test_lat_node_without_body_or_plugin_is_unknown(
    examined: Examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = banded_model(tmp_path / "m.onnx", bodies=False)
    assert "lat-export puts the function body" in only_error(examined(path)).mend
    monkeypatch.setenv("LAT_EXPORT_PLUGINS", str(plugin_folder(tmp_path / "built", "banded_window_attention")))
    found = examined(path)
    assert found.works
    assert [kept.kind for kept in found.nodes] == ["plugin"]


def test_plugin_comes_before_the_body_where_its_namespace_is_named(
    examined: Examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAT_EXPORT_PLUGINS", str(plugin_folder(tmp_path / "built", "banded_window_attention")))
    named = examined(banded_model(tmp_path / "named.onnx"))
    assert named.forms == {"attention": "plugin"}
    assert [kept.kind for kept in named.nodes] == ["plugin"]
    unnamed = examined(banded_model(tmp_path / "unnamed.onnx", plugin_namespace=None))
    assert unnamed.nodes[0].kind == "local function"
    assert "plugin_namespace" in next(f for f in unnamed.findings if f.severity == "warning").what
    # TensorRT-RTX has no plugins: there the body is put in.
    assert examined(banded_model(tmp_path / "rtx.onnx"), "trt-rtx").forms == {"attention": "body"}


def test_scatter_with_a_reduction_is_refused(examined: Examined, tmp_path: Path) -> None:
    constants = {"i": np.zeros((1, 1, 8), np.int64), "u": np.ones((1, 1, 8), np.float32)}
    path = one_node(tmp_path / "m.onnx", "ScatterElements", ["x", "i", "u"], constants, reduction="add", axis=1)
    finding = only_error(examined(path))
    assert (finding.node, finding.got) == ("victim", "reduction=add")
    assert examined(
        one_node(tmp_path / "n.onnx", "ScatterElements", ["x", "i", "u"], constants, reduction="none", axis=1)
    ).works


def topk(path: Path, *, largest: int | None = None, from_data: bool = False, is_sorted: int = 1) -> Path:
    """TopK over the last axis of x [batch, 5000], K constant, or the sum of the data."""
    nodes = [node("TopK", ["x", "k"], ["y", "z"], name="victim", sorted=is_sorted)]
    constants = []
    if from_data:
        nodes = [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Cast", ["s"], ["c"], to=INT64),
                 node("Reshape", ["c", "one"], ["k"]), *nodes]  # fmt: skip
        constants = [numpy_helper.from_array(np.array([1]), "one")]
    else:
        constants = [numpy_helper.from_array(np.array([largest]), "k")]
    outputs = [tensor("y", "batch", "K"), tensor("z", "batch", "K", dtype=INT64)]
    return write(path, nodes, [tensor("x", "batch", 5000)], outputs, initializer=constants)


def test_limits_of_topk(examined: Examined, tmp_path: Path) -> None:
    assert examined(topk(tmp_path / "most.onnx", largest=MOST_GLOBALS)).works
    finding = only_error(examined(topk(tmp_path / "more.onnx", largest=MOST_GLOBALS + 1)))
    assert finding.got.startswith("3841")
    assert "hangs on the data" in only_error(examined(topk(tmp_path / "data.onnx", from_data=True))).what
    assert only_error(examined(topk(tmp_path / "sorted.onnx", largest=3, is_sorted=0))).got == "sorted=0"


def test_axis_must_be_constant_and_may_not_hang_on_sizes(examined: Examined, tmp_path: Path) -> None:
    def model(name: str, axis: list[object]) -> Path:
        return write(
            tmp_path / name,
            [*axis, node("CumSum", ["x", "axis"], ["y"], name="victim")],
            [rows("x", 8), tensor("a", dtype=INT64)],
            [rows("y", 8)],
        )

    given = only_error(examined(model("given.onnx", [node("Identity", ["a"], ["axis"])])))
    assert given.what == "axis of CumSum must be constant"
    constant = node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array(1)))
    assert examined(model("constant.onnx", [constant])).works
    sized = [
        node("Shape", ["x"], ["n"], start=1, end=2),
        node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([8]))),
        node("Div", ["n", "c"], ["d"]),
        node("Squeeze", ["d"], ["q"]),
        node("Min", ["q", "one"], ["axis"]),
    ]
    one = node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1)))
    assert examined(model("sized.onnx", [one, *sized])).works  # 1 at all of 8, 16 and 64 tokens
    two = node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(2)))
    assert only_error(examined(model("other.onnx", [two, *sized]))).node == "victim"


def test_second_output_of_a_layer_norm_must_not_be_used(examined: Examined, tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.ones(8, np.float32), "scale")

    def model(name: str, *outputs: str) -> Path:
        norm = node("LayerNormalization", ["x", "scale"], ["y", "mean"], name="norm")
        infos = [rows("y", 8), tensor("mean", "batch", "sequence", 1)]
        return write(tmp_path / name, [norm], [rows("x", 8)], infos[: len(outputs)], initializer=[scale])

    assert examined(model("one.onnx", "y")).works
    assert only_error(examined(model("two.onnx", "y", "mean"))).got == "mean is used"


def test_ops_that_rtx_knows_and_refuses(examined: Examined, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [node("NonZero", ["x"], ["y"], name="victim")],
        [rows("x", 8)],
        [tensor("y", 3, "found", dtype=INT64)],
    )
    assert examined(path, "trt").works
    assert only_error(examined(path, "trt-rtx")).node == "victim"


def test_shapes_that_do_not_fit_are_told_with_the_sizes(examined: Examined, tmp_path: Path) -> None:
    constants = {"shape": np.array([-1, 16, 8])}
    finding = only_error(examined(one_node(tmp_path / "m.onnx", "Reshape", ["x", "shape"], constants)))
    assert (finding.rule, finding.node) == ("shapes", "victim")
    assert "batch=1, sequence=8" in finding.got
    assert "min sizes" in finding.what


def test_computed_shapes_are_followed(examined: Examined, tmp_path: Path) -> None:
    """Div, Concat and Reshape of sizes: 8 tokens make 2 blocks, 16 make 4; an odd number makes none."""
    nodes = [
        node("Shape", ["x"], ["n"], start=1, end=2),
        node("Constant", [], ["four"], value=numpy_helper.from_array(np.array([4]))),
        node("Div", ["n", "four"], ["blocks"]),
        node("Constant", [], ["rest"], value=numpy_helper.from_array(np.array([4, 8]))),
        node("Constant", [], ["all"], value=numpy_helper.from_array(np.array([-1]))),
        node("Concat", ["all", "blocks", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"], name="blocks"),
    ]
    outputs = [tensor("y", "batch", "blocks", 4, 8)]
    path = write(tmp_path / "m.onnx", nodes, [rows("x", 8)], outputs)
    assert examined(path).works
    assert only_error(examined(path, sequence=Range(8, 10, 64))).node == "blocks"


def test_opset_beyond_the_documented_ones(examined: Examined, tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], [rows("x", 8)], [rows("y", 8)], opset=8)
    assert (only_error(examined(path)).rule, examined(path, "trt-rtx").works) == ("opset", True)


def typed(path: Path, dtype: int, op: str = "Add", other: int | None = None) -> Path:
    second = dtype if other is None else other
    values = [rows("x", 8, dtype), rows("w", 8, second)]
    return write(path, [node(op, ["x", "w"], ["y"], name="victim")], values, [rows("y", 8, dtype)])


def test_element_types(examined: Examined, tmp_path: Path) -> None:
    for dtype in (FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, INT64):
        assert examined(typed(tmp_path / f"{dtype}.onnx", dtype)).works
    assert only_error(examined(typed(tmp_path / "uint16.onnx", TensorProto.UINT16))).got == "uint16"
    double = examined(typed(tmp_path / "double.onnx", TensorProto.DOUBLE))
    assert double.works
    assert [f.node for f in double.findings if f.severity == "warning"] == ["victim"]
    mixed = only_error(examined(typed(tmp_path / "mixed.onnx", TensorProto.FLOAT16, other=FLOAT)))
    assert "x: float16" in mixed.got
    assert "Cast" in mixed.mend
    undocumented = examined(typed(tmp_path / "matmul.onnx", INT64, "Mod", INT64))
    assert undocumented.works


def test_type_that_is_documented_for_no_such_op_is_a_warning(examined: Examined, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [node("Ceil", ["x"], ["h"]), node("Cast", ["h"], ["c"], to=TensorProto.BOOL), node("ReduceMax", ["c"], ["y"])],
        [rows("x", 8)],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, [1, 1, 1])],
    )
    found = examined(path)
    assert found.works
    assert [f.got for f in found.findings if f.severity == "warning"] == ["bool"]


def test_int64_inputs_and_bfloat16_are_noted(examined: Examined, tmp_path: Path) -> None:
    def notes(path: Path) -> list[str]:
        return [f.what for f in examined(path).findings if f.rule == "element types"]

    assert notes(typed(tmp_path / "long.onnx", INT64)) == ["inputs are int64: x, w"]
    assert "compute capability 8.0" in notes(typed(tmp_path / "bf16.onnx", TensorProto.BFLOAT16))[0]


def test_file_that_is_no_model(examined: Examined, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(InputError, match="not an ONNX model"):
        examined(tmp_path / "m.onnx")


def test_dimension_without_sizes_is_asked_for(examined: Examined, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sizes for sequence") as caught:
        examined(banded_model(tmp_path / "m.onnx"), sequence=None)
    assert "--seq" in str(caught.value)
    path = write(tmp_path / "n.onnx", [node("Relu", ["x"], ["y"])], [tensor("x", "rows")], [tensor("y", "rows")])
    with pytest.raises(InputError, match="no sizes for rows"):
        examined(path)


def test_bodies_of_all_ops_use_only_ops_that_both_parsers_know() -> None:
    for target in ("trt", "trt-rtx"):
        table = importers(target)
        for name, op in OPS.items():
            used = {inner.op_type for inner in op.function(StaticBounds(max_global=4)).all_nodes()}
            assert {kind for kind in used if kind not in table} == set(), (target, name)


def test_names_of_inlined_bodies_tell_the_caller(examined: Examined, tmp_path: Path) -> None:
    found = examined(banded_model(tmp_path / "m.onnx"), "trt-rtx")
    assert found.works
    assert all(kept.name.startswith("attention/") for kept in found.nodes)
    assert not [kept for kept in found.nodes if kept.kind == "local function"]
