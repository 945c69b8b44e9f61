"""What the linear layers of a model cost at the least: their operations, counted on the ONNX graph itself.

A linear layer is a MatMul or Gemm whose second factor is a weight. What happens inside of a `lat` node, and products of
two activations, is attention, and not counted: a model at its floor would have attention, norms and activations for
nothing.
"""

from __future__ import annotations

import ast
import math
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.errors import InternalError

if TYPE_CHECKING:
    import onnx_ir

ABOUT_AS_MANY = 0.9
OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class LinearLayer:
    """One product of rows with a weight.

    Attributes:
        rows: sizes and names of dims whose product is M.
        inner, columns: K and N of the (K, N) weight.
    """

    name: str
    rows: tuple[str | int, ...]
    inner: int
    columns: int

    def operations(self, sizes: Mapping[str, int]) -> int:
        """2 M K N: a multiplication and an addition each.

        Args:
            sizes: by the name of each dynamic dim.
        """
        return 2 * math.prod(dim_size(dim, sizes) for dim in self.rows) * self.inner * self.columns


def linear_layers(model: Path) -> list[LinearLayer]:
    """Every linear layer of an ONNX model; no weight is read.

    Raises:
        InternalError: the graph does not say the shape of a layer's rows.
    """
    import onnx_ir as ir

    found = []
    for node in ir.load(model).graph:
        if node.domain or node.op_type not in ("MatMul", "Gemm"):
            continue
        rows, weight = node.inputs[0], node.inputs[1]
        if rows is None or weight is None or not weight.is_initializer() or rows.is_initializer():
            continue
        if rows.shape is None or weight.shape is None:
            raise InternalError(f"the graph does not say the shape of {node.name}", got=node.op_type)
        found.append(_layer(node, [dim if isinstance(dim, int) else str(dim) for dim in rows.shape], weight))
    return found


def _layer(node: onnx_ir.Node, rows: list[str | int], weight: onnx_ir.Value) -> LinearLayer:
    assert weight.shape is not None
    inner, columns = (int(str(size)) for size in weight.shape)
    if _flag(node, "transB"):
        inner, columns = columns, inner
    of_rows = rows[1:] if _flag(node, "transA") else rows[:-1]
    return LinearLayer(str(node.name), tuple(of_rows), inner, columns)


def _flag(node: onnx_ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and bool(attribute.as_int())


def usual_weight(layers: list[LinearLayer], sizes: Mapping[str, int]) -> tuple[int, int]:
    """(K, N) of the weights in which most of the operations are; of several with about as many, the largest."""
    shares: Counter[tuple[int, int]] = Counter()
    for layer in layers:
        shares[layer.inner, layer.columns] += layer.operations(sizes)
    enough = ABOUT_AS_MANY * max(shares.values())
    return max((shape for shape, share in shares.items() if share >= enough), key=math.prod)


def dim_size(dim: str | int, sizes: Mapping[str, int]) -> int:
    """Size of a dim: a number, a name, or a formula of names, as "batch*choices".

    Raises:
        InternalError: a name without a size, or a formula of another kind.
    """
    if isinstance(dim, int):
        return dim
    try:
        return _value(ast.parse(dim, mode="eval").body, sizes)
    except (KeyError, SyntaxError) as error:
        raise InternalError("a dim of the graph without a size", got=dim, expected=", ".join(sizes)) from error


def _value(tree: ast.expr, sizes: Mapping[str, int]) -> int:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.Name):
        return sizes[tree.id]
    if isinstance(tree, ast.BinOp):
        return OPERATORS[type(tree.op)](_value(tree.left, sizes), _value(tree.right, sizes))
    raise KeyError(ast.dump(tree))
