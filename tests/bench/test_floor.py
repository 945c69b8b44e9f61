"""Operations of linear layers: against hand counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lat_export.bench.floor import LinearLayer, dim_size, linear_layers, usual_weight
from lat_export.errors import InternalError

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def weight(name: str, *shape: int) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(np.zeros(shape, np.float32), name=name))


def named(node: ir.Node, name: str, *dims: str | int) -> ir.Value:
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = name, ir.Shape(dims), FLOAT
    return node.outputs[0]


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """Linear 4 -> 6, its transposed kind 6 -> 2, a product of activations, and a weight that is the first factor."""
    rows = ir.Value(name="rows", shape=ir.Shape(["batch", "sequence", 4]), type=FLOAT)
    up, down, mixing = weight("up", 4, 6), weight("down", 2, 6), weight("mixing", 3, 3)
    nodes = [ir.node("MatMul", [rows, up])]
    wide = named(nodes[0], "wide", "batch", "sequence", 6)
    nodes.append(ir.node("Transpose", [wide], {"perm": [0, 2, 1]}))
    turned = named(nodes[1], "turned", "batch", 6, "sequence")
    nodes.append(ir.node("MatMul", [wide, turned]))
    named(nodes[2], "scores", "batch", "sequence", "sequence")
    nodes.append(ir.node("Reshape", [wide, ir.Value(name="shape")]))
    flat = named(nodes[3], "flat", "batch*sequence", 6)
    nodes.append(ir.node("Gemm", [flat, down], {"transB": 1}))
    named(nodes[4], "narrow", "batch*sequence", 2)
    nodes.append(ir.node("MatMul", [mixing, wide]))
    named(nodes[5], "mixed", "batch", 3, 6)
    shape = nodes[3].inputs[1]
    assert shape is not None
    shape.const_value = ir.tensor(np.array([-1, 6]), name="shape")
    graph = ir.Graph(
        [rows],
        [nodes[4].outputs[0]],
        nodes=nodes,
        initializers=[up, down, mixing, shape],
        name="small",
        opset_imports={"": 20},
    )
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def test_only_products_with_a_weight_count(small_model: Path) -> None:
    layers = linear_layers(small_model)
    sizes = {"batch": 3, "sequence": 5}
    assert [(layer.inner, layer.columns) for layer in layers] == [(4, 6), (6, 2)]
    assert [layer.operations(sizes) for layer in layers] == [2 * 15 * 4 * 6, 2 * 15 * 6 * 2]
    assert usual_weight(layers, sizes) == (4, 6)


def test_the_usual_weight_is_the_largest_of_those_with_about_as_many_operations() -> None:
    """Four projections of 8 x 8 and a pooler against 8 x 32 and 32 x 8, as in a layer of a transformer."""
    rows: tuple[str | int, ...] = ("batch", "sequence")
    layers = [LinearLayer("projection", rows, 8, 8)] * 4
    layers += [
        LinearLayer("pooler", ("batch",), 8, 8),
        LinearLayer("up", rows, 8, 32),
        LinearLayer("down", rows, 32, 8),
    ]
    assert usual_weight(layers, {"batch": 1, "sequence": 50}) == (8, 32)
    assert usual_weight(layers[:5], {"batch": 1, "sequence": 50}) == (8, 8)


def test_dims_may_be_formulas() -> None:
    sizes = {"batch": 2, "choices": 3, "sequence": 7}
    assert dim_size(5, sizes) == 5
    assert dim_size("batch*choices", sizes) == 6
    assert dim_size("batch*sequence + 1", sizes) == 15
    for unknown in ("u0", "batch/2", "__import__('os')"):
        with pytest.raises(InternalError, match="without a size"):
            dim_size(unknown, sizes)
