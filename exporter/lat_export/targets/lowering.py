"""Rewrites of the portable model for one target."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.onnx_file import save
from lat_export.ops import DOMAIN, OPS, StaticBounds

if TYPE_CHECKING:
    import onnx_ir


# In the metadata of a node of an inlined body: the name of the node whose body it was.
CALLER = "lat_export.caller"


def lat_nodes(model: Path) -> dict[str, str]:
    """Op type by node name of every `lat` node in an ONNX file; no weight is read."""
    import onnx_ir as ir

    graph = ir.load(model).graph
    return {str(node.name): node.op_type for node in graph if node.domain == DOMAIN}


def with_static_bounds(
    model: Path, lowered: Path, bounds: StaticBounds, *, inlined: bool = False, shares_weights: bool = False
) -> Path:
    """Write `model` to `lowered` with function bodies whose shapes hang on `bounds` instead of on data.

    Args:
        inlined: put the bodies in place of their nodes and share what is alike, for a target without plugins.
        shares_weights: weights that `model` has in a file beside it stay there; `lowered` must lie beside it too.
    """
    import onnx_ir as ir

    program = bounded(model, bounds)
    if inlined:
        inline(program)
    if shares_weights:
        ir.save(program, lowered)
    else:
        save(program, lowered)
    return lowered


def bounded(model: Path, bounds: StaticBounds) -> onnx_ir.Model:
    """`model` with function bodies whose shapes hang on `bounds`."""
    import onnx_ir as ir

    program = ir.load(model)
    for identifier in list(program.functions):
        domain, name, _ = identifier
        if domain == DOMAIN and name in OPS:
            program.functions[identifier] = OPS[name].function(bounds)
    return program


def name_callers(program: onnx_ir.Model) -> None:
    """Before `inline`: each node of a body is to know its caller. Metadata of a node goes to all of its body."""
    for node in program.graph:
        if node.op_identifier() in program.functions:
            node.metadata_props[CALLER] = str(node.name)


def inline(program: onnx_ir.Model, kept: Collection[str] = ()) -> None:
    """Bodies in place of nodes; masks, indices and shapes that layers have in common are computed once.

    Args:
        kept: `lat` ops whose nodes stay.
    """
    from onnx_ir.passes import Sequential
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, InlinePass, RemoveUnusedNodesPass

    for domain, name, overload in list(program.functions):
        if domain == DOMAIN and name in kept:
            del program.functions[domain, name, overload]
    Sequential(InlinePass(), CommonSubexpressionEliminationPass(), RemoveUnusedNodesPass())(program)
