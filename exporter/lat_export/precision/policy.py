"""What a model exported in half precision computes in it, and what stays in float32.

Of the graph around the ops this table says it, node by node. Inside of an op its contract does: softmax, normalisation,
the pseudo-inverse and every sum over the sequence are in float32, in body and kernels alike, whatever the element type.
docs/precision.md has what each line costs if it is left out, measured by benchmarks/half_precision.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lat_export.ops import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

HALF, FLOAT32 = "half", "fp32"


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        name: for people.
        ops: op types of the nodes; of domain `lat` with that before it.
        computed_in: `HALF` or `FLOAT32`.
        reason: why.
        module: a part of the node's name, which begins with the module that it is from; "" for any.
    """

    name: str
    ops: tuple[str, ...]
    computed_in: str
    reason: str
    module: str = ""


POLICY = (
    Rule("linear layers", ("MatMul", "Gemm"), HALF, "nearly all weights and nearly all arithmetic"),
    Rule("word embeddings", ("Gather",), HALF, "as large as several layers, and only read", module="word_embeddings"),
    Rule(
        "positions and token types",
        ("Gather",),
        FLOAT32,
        "small tables, at the very beginning: what they are rounded by goes through all layers",
    ),
    Rule(
        "attention",
        tuple(
            f"{DOMAIN}::{name}"
            for name in (
                "BandedWindowAttention",
                "BandedWindowProbabilities",
                "GlobalTokenAttention",
                "GlobalTokenProbabilities",
                "FullAttention",
                "BernoulliExpectation",
            )
        ),
        HALF,
        "queries, keys and values are read in half precision; softmax, norms and sums inside are in float32",
    ),
    Rule(
        "hash codes",
        (f"{DOMAIN}::LshCumulation",),
        FLOAT32,
        "a code is the signs of sums: rounded queries, keys or projections flip some, and then whole rows differ",
    ),
    Rule(
        "landmarks",
        (f"{DOMAIN}::NystromAttention", f"{DOMAIN}::NystromProbabilities"),
        FLOAT32,
        "the pseudo-inverse of a nearly singular matrix makes much of roundings of queries and keys; it is a few per "
        "cent of a layer's arithmetic",
    ),
    Rule(
        "normalisation",
        ("LayerNormalization",),
        FLOAT32,
        "mean and variance of rows that may be large; what it gives is the next sum's first term",
    ),
    Rule(
        "biases and residuals",
        ("Add",),
        FLOAT32,
        "the residual goes through all layers: each sum in half precision rounds it once more; biases are few",
    ),
    Rule(
        "activations",
        ("Gelu", "Tanh", "Relu", "Sigmoid", "Erf", "Mul", "Pow", "Div", "Sub"),
        FLOAT32,
        "between sums in float32, where a rounding more would save nothing; masks made of numbers among them",
    ),
    Rule("convolutions", ("Conv",), FLOAT32, "ONNX has no bfloat16 Conv before opset 22"),
)

# They compute nothing: an activation they hand on in the type that it has, a weight in the type that it is wanted in.
# Gather of a weight, an embedding table, is a rule's.
MOVES = frozenset(
    {
        *("Concat", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Reshape"),
        *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)


def name_of(node: ir.Node) -> str:
    """The op type as the table names it."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def rule_of(node: ir.Node, policy: Iterable[Rule] = POLICY) -> Rule | None:
    """The line that says what a node computes in; None of an op that no line names: it stays in float32."""
    name, place = name_of(node), str(node.name)
    return next((rule for rule in policy if name in rule.ops and rule.module in place), None)


def moves_an_activation(node: ir.Node) -> bool:
    return _moves(node) and not _takes_a_weight(node)


def moves_a_weight(node: ir.Node) -> bool:
    return _moves(node) and _takes_a_weight(node) and node.op_type != "Gather"


def _moves(node: ir.Node) -> bool:
    return node.op_type in MOVES and not node.domain


def _takes_a_weight(node: ir.Node) -> bool:
    data = node.inputs[0] if node.inputs else None
    return data is not None and data.const_value is not None
