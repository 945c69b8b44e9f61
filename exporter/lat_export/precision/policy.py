"""What stays in float32 when a model is exported in half precision.

In the graph around the ops a node is kept by this table. Inside an op its contract says it: softmax, normalisation, the
pseudo-inverse and every sum over the sequence accumulate in float32, in body and kernels alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lat_export.ops import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Kept:
    """One line of the table.

    Attributes:
        op: op type of the nodes; of domain `lat` with that before it.
        precisions: in which it is kept.
        reason: why.
    """

    op: str
    precisions: tuple[str, ...]
    reason: str


POLICY = (
    Kept(
        f"{DOMAIN}::LshCumulation",
        ("fp16", "bf16"),
        "a hash code is the signs of 64 sums: rounded queries, keys or projections flip some, and then whole rows differ",
    ),
)


def kept(node: ir.Node, precision: str, policy: Iterable[Kept]) -> bool:
    """Whether a table keeps this node in float32."""
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return any(row.op == name and precision in row.precisions for row in policy)
