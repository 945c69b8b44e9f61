"""Rewrites of the portable model for one target."""

from __future__ import annotations

from pathlib import Path

from lat_export.ops import DOMAIN, OPS, StaticBounds


def lat_nodes(model: Path) -> dict[str, str]:
    """Op type by node name of every `lat` node in an ONNX file; no weight is read."""
    import onnx_ir as ir

    graph = ir.load(model).graph
    return {str(node.name): node.op_type for node in graph if node.domain == DOMAIN}


def with_static_bounds(model: Path, lowered: Path, bounds: StaticBounds) -> Path:
    """Write `model` to `lowered` with function bodies whose shapes hang on `bounds` instead of on data."""
    import onnx_ir as ir

    from lat_export.onnx_file import save

    program = ir.load(model)
    for identifier in list(program.functions):
        domain, name, _ = identifier
        if domain == DOMAIN:
            program.functions[identifier] = OPS[name].function(bounds)
    save(program, lowered)
    return lowered
