"""Small ONNX files for the rules of a dry run, and what was found in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnx import TensorProto, helper

from lat_export import native
from lat_export.dry_run import DryRun, Finding
from lat_export.ops import DOMAIN, DOMAIN_VERSION, OPS, OPSET_VERSION
from lat_export.ops.contract import PLUGIN_ATTRIBUTES

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
BATCH = ("batch", "sequence")


def write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **rest: Any) -> Path:
    """A model of these nodes; `initializer` and `opset` may be given."""
    opset = rest.pop("opset", OPSET_VERSION)
    graph = helper.make_graph(nodes, "graph", inputs, outputs, **rest)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())
    return path


def tensor(name: str, *dims: str | int, dtype: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, list(dims))


def rows(name: str, width: int, dtype: int = FLOAT) -> Any:
    return tensor(name, *BATCH, width, dtype=dtype)


def banded_model(path: Path, *, width: int = 32, bodies: bool = True, mask: int = INT32, **attributes: Any) -> Path:
    """One lat::BandedWindowAttention called `attention`; an attribute of None is left out."""
    given = {"num_heads": 2, "window": 4, "scale": 0.25, **PLUGIN_ATTRIBUTES, **attributes}
    inputs = [
        ir.Value(name=name, shape=ir.Shape((*BATCH, width)), type=ir.TensorType(ir.DataType.FLOAT))
        for name in ("query", "key", "value")
    ]
    inputs.append(ir.Value(name="attention_mask", shape=ir.Shape(BATCH), type=ir.TensorType(ir.DataType(mask))))
    output = ir.Value(name="output", shape=inputs[0].shape, type=inputs[0].type)
    kept = {key: value for key, value in given.items() if value is not None}
    node = ir.node("BandedWindowAttention", inputs, kept, domain=DOMAIN, outputs=[output], name="attention")
    graph = ir.Graph(
        inputs, [output], nodes=[node], name="banded", opset_imports={"": OPSET_VERSION, DOMAIN: DOMAIN_VERSION}
    )
    functions = [OPS["BandedWindowAttention"].function()] if bodies else []
    ir.save(ir.Model(graph, ir_version=10, functions=functions), path)
    return path


def plugin_folder(folder: Path, *ops: str) -> Path:
    """What a build with TensorRT plugins of these ops leaves, as far as a dry run looks at it: no library is loaded."""
    contents = {
        "kernels": [],
        "onnxruntime": [],
        "archs": ["scalar"],
        "compiler": "none",
        "left_out": {},
        "cuda": list(ops),
        "cuda_archs": ["sm_90"],
        "tensorrt": list(ops),
        "tensorrt_major": "10",
    }
    folder.mkdir()
    (folder / native.CONTENTS).write_text(json.dumps(contents))
    for library in (native.KERNELS_LIBRARY, native.TENSORRT_LIBRARY):
        (folder / library).touch()
    return folder


def errors(found: DryRun) -> list[Finding]:
    return [finding for finding in found.findings if finding.severity == "error"]


def only_error(found: DryRun) -> Finding:
    """The one error, which must not be without a mend."""
    (finding,) = errors(found)
    assert not found.works
    assert finding.mend
    return finding
