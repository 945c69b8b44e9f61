"""graph: ONNX program -> checked portable model on disk, with the functions of its `lat` nodes."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.errors import InternalError
from lat_export.onnx_file import save
from lat_export.ops import DOMAIN, DOMAIN_VERSION, OPS
from lat_export.precision import Kept
from lat_export.stages.load import Loaded
from lat_export.stages.signature import wanted_groups
from lat_export.stages.trace import Traced
from lat_export.targets.contract import PORTABLE_MODEL
from lat_export.targets.largest_values import LargestValue

if TYPE_CHECKING:
    import onnx_ir

WHERE = {"stage": "graph"}
# Where torch.onnx keeps the modules around a node, outermost first, the node's own name last.
SCOPES = "pkg.torch.onnx.name_scopes"
# From the names of `lat_export.families.backbone.Backbone` to those of transformers.
MODULE_NAMES = (
    (r"^.*\battentions\.(\d+)\.attention\b", r"layer.\1.attention.self"),
    (r"^.*\battentions\.(\d+)$", r"layer.\1.attention.self"),
    (r"^.*\blayers\.(\d+)\b", r"layer.\1"),
    (r"^model\.", ""),
)


@dataclass(frozen=True)
class Graph:
    """The portable model on disk.

    Attributes:
        lat_nodes: how many nodes of each `lat` op it has; one a layer.
        precision: of `PRECISIONS`.
        computed_in: in half precision, how many nodes compute in it and in "fp32", and how many "casts" lie between.
        kept: in half precision, the parts that stay in float32 all the same.
        largest: of the values that are stored in float16, the largest on the golden cases, where they were looked at.
    """

    model: Path
    lat_nodes: dict[str, int]
    precision: str = "fp32"
    computed_in: dict[str, int] = field(default_factory=dict)
    kept: Kept | None = None
    largest: tuple[LargestValue, ...] = ()


def build_graph(loaded: Loaded, traced: Traced, folder: Path) -> Graph:
    """Write the portable model in float32 into `folder`, which is made where it is not there.

    Raises:
        InternalError: a `lat` node is missing (an attention was not swapped), or the model breaks the ONNX standard.
    """
    import onnx_ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    program = traced.program
    found = name_nodes(program)
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
    folder.mkdir(exist_ok=True)
    path = folder / PORTABLE_MODEL
    write_checked(program, path)
    return Graph(path, found)


def name_nodes(program: onnx_ir.Model) -> dict[str, int]:
    """Name every node by the module that it comes from, and the i-th node of a `lat` op `layer.<i>.<op>`.

    Returns:
        How many nodes each `lat` op has.
    """
    lat_nodes: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for node in program.graph:
        if node.domain == DOMAIN:
            node.name = f"layer.{lat_nodes[node.op_type]}.{node.op_type}"
            lat_nodes[node.op_type] += 1
        else:
            name = f"{_module(node)}/{node.op_type}"
            node.name = f"{name}_{taken[name]}" if taken[name] else name
            taken[name] += 1
    return dict(lat_nodes)


def _module(node: onnx_ir.Node) -> str:
    """Path of the PyTorch module that a node was traced from, `layer.3.attention.self.query` where it is of a layer."""
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    path = scopes[-2] if len(scopes) > 1 else ""
    for pattern, replacement in MODULE_NAMES:
        path = re.sub(pattern, replacement, path)
    return "model" if path.startswith("_") or not path else path  # torch's word for no module begins with "_"


def write_checked(program: onnx_ir.Model, path: Path) -> None:
    """
    Raises:
        InternalError: the model breaks the ONNX standard.
    """
    import onnx

    save(program, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # checker and shape inference raise different kinds
        raise InternalError(
            "the exported model breaks the ONNX standard", got=str(error)[:1500], where=WHERE
        ) from error
