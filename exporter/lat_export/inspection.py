"""What is in an ONNX file: counts, sizes, axes and `lat` nodes, without reading a weight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, first_line
from lat_export.ops import DOMAIN

if TYPE_CHECKING:
    import onnx_ir


@dataclass(frozen=True)
class OnnxFacts:
    """
    Attributes:
        ops: nodes of the main graph by `domain::op`; standard ops without a domain.
        parameter_bytes: bytes of all initializers.
        file_bytes: the ONNX file and its external data.
        lat_nodes: op and attributes by node name, and whether the file holds the function body.
    """

    path: Path
    opsets: dict[str, int]
    ops: dict[str, int]
    parameters: int
    parameter_bytes: int
    file_bytes: int
    inputs: dict[str, str]
    outputs: dict[str, str]
    lat_nodes: dict[str, dict[str, Any]]

    @property
    def nodes(self) -> int:
        return sum(self.ops.values())

    @property
    def dynamic_axes(self) -> list[str]:
        texts = [*self.inputs.values(), *self.outputs.values()]
        dims = [dim for text in texts for dim in text.partition("[")[2].rstrip("]").split(", ")]
        return list(dict.fromkeys(dim for dim in dims if dim and not dim.isdecimal()))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path), "nodes": self.nodes, "dynamic_axes": self.dynamic_axes}


def inspect_onnx(path: Path) -> OnnxFacts:
    """
    Raises:
        InputError: the file is no ONNX model.
    """
    import onnx_ir as ir

    try:
        model = ir.load(path)
    except Exception as error:  # protobuf's and the file system's kinds
        raise InputError("not an ONNX model", got=f"{path}: {first_line(error)}") from error
    graph = model.graph
    if not graph.outputs:
        raise InputError("not an ONNX model", got=f"{path} has no outputs")
    weights = [value.const_value for value in graph.initializers.values() if value.const_value is not None]
    ops = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in graph)
    data_files = {path.parent / tensor.location for tensor in weights if isinstance(tensor, ir.ExternalTensor)}
    absent = [str(file) for file in data_files if not file.is_file()]
    if absent:
        raise InputError("a file with weights of the model is missing", got=absent[0], expected=f"beside {path.name}")
    return OnnxFacts(
        path=path,
        opsets=dict(model.opset_imports),
        ops=dict(ops.most_common()),
        parameters=sum(tensor.size for tensor in weights),
        parameter_bytes=sum(tensor.nbytes for tensor in weights),
        file_bytes=sum(file.stat().st_size for file in (path, *data_files)),
        inputs={str(value.name): _type(value) for value in graph.inputs},
        outputs={str(value.name): _type(value) for value in graph.outputs},
        lat_nodes={
            str(node.name): {
                "op": node.op_type,
                "body": any(key[:2] == (DOMAIN, node.op_type) for key in model.functions),
                **{name: attribute.value for name, attribute in node.attributes.items()},
            }
            for node in graph
            if node.domain == DOMAIN
        },
    )


def _type(value: onnx_ir.Value) -> str:
    dims = ", ".join(str(dim) for dim in value.shape or ())
    return f"{str(value.dtype).lower()}[{dims}]"
