"""narrow: portable model in float32 -> the same in half precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lat_export.precision import Kept, convert
from lat_export.stages.float32_parts import named
from lat_export.stages.graph import Graph, write_checked
from lat_export.targets import PORTABLE_MODEL


def narrow(graph: Graph, folder: Path, precision: str, kept: Kept) -> Graph:
    """Write the portable model in half precision into `folder`, which is made where it is not there.

    Args:
        graph: in float32, in another folder.
        kept: what stays in float32 besides what the policy says.
    Raises:
        InputError: a weight is beyond what `precision` can hold.
    """
    import onnx_ir as ir

    program = ir.load(graph.model)
    computed_in = convert(program, precision, kept=kept.parts)
    folder.mkdir(exist_ok=True)
    path = folder / PORTABLE_MODEL
    write_checked(program, path)
    return replace(graph, model=path, precision=precision, computed_in=computed_in, kept=kept)


def narrow_as_named(graph: Graph, folder: Path, precision: str, names: Iterable[str]) -> Graph:
    """Where no golden tensors are at hand to ask: `graph` itself in fp32, else with the parts of `names` kept in it."""
    return graph if precision == "fp32" else narrow(graph, folder, precision, named(graph, names))
