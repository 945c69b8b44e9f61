"""graph: ONNX program -> checked portable model on disk, with the functions of its `lat` nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.errors import InternalError
from lat_export.onnx_file import save
from lat_export.ops import DOMAIN, DOMAIN_VERSION, OPS
from lat_export.stages.load import Loaded
from lat_export.stages.signature import wanted_groups
from lat_export.stages.trace import Traced
from lat_export.targets.contract import PORTABLE_MODEL

if TYPE_CHECKING:
    import onnx_ir

WHERE = {"stage": "graph"}


@dataclass(frozen=True)
class Graph:
    """The portable model on disk.

    Attributes:
        lat_nodes: how many nodes of each `lat` op it has; one a layer.
    """

    model: Path
    lat_nodes: dict[str, int]


def build_graph(loaded: Loaded, traced: Traced, folder: Path) -> Graph:
    """Write the portable model into `folder`.

    Raises:
        InternalError: a `lat` node is missing (an attention was not swapped), or the model breaks the ONNX standard.
    """
    import onnx_ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    program = traced.program
    found = _name_lat_nodes(program)
    family, config = loaded.checkpoint.family, loaded.model.config
    expected = family.expected_nodes(config)
    if wanted_groups(loaded.signature)["output_attentions"]:
        expected |= family.probability_nodes(config)
    if found != expected:
        raise InternalError(
            "the traced graph does not have one node of each attention op a layer",
            got=found,
            expected=expected,
            where=WHERE,
        )
    for name in found:
        function = OPS[name].function()
        program.functions[function.identifier()] = function
    program.opset_imports[DOMAIN] = DOMAIN_VERSION
    # The exporter cannot know a size that depends on data.
    for value, tensor in zip(program.graph.outputs, loaded.signature.outputs, strict=True):
        value.shape = onnx_ir.Shape(tensor.dims)
    # The exporter's stack traces hold paths of this machine and would make two exports differ.
    ClearMetadataAndDocStringPass()(program)
    path = folder / PORTABLE_MODEL
    save(program, path)
    _check(path)
    return Graph(path, found)


def _name_lat_nodes(program: onnx_ir.Model) -> dict[str, int]:
    """Call the i-th node of an op `layer.<i>.<op>` (order is depth); how many nodes each op has."""
    counts: Counter[str] = Counter()
    for node in program.graph:
        if node.domain == DOMAIN:
            node.name = f"layer.{counts[node.op_type]}.{node.op_type}"
            counts[node.op_type] += 1
    return dict(counts)


def _check(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # checker and shape inference raise different kinds
        raise InternalError(
            "the exported model breaks the ONNX standard", got=str(error)[:1500], where=WHERE
        ) from error
