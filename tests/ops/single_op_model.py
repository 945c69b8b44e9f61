"""An ONNX model of one `lat` node and its body, for tests of bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from lat_export.ops import DOMAIN, DOMAIN_VERSION, OPS, OPSET_VERSION, StaticBounds
from lat_export.ops.contract import PLUGIN_ATTRIBUTES


def single_op_model(
    name: str, attributes: dict[str, Any], bounds: StaticBounds | None = None, dtype: ir.DataType = ir.DataType.FLOAT
) -> ir.Model:
    """Inputs as the op's contract names them, output `output`."""
    op = OPS[name]
    inputs = [
        ir.Value(
            name=port.name,
            shape=ir.Shape(port.dims),
            type=ir.TensorType(ir.DataType.INT32 if port.dtypes == ("int32",) else dtype),
        )
        for port in op.inputs
    ]
    shape = ir.Shape(op.output_dims or op.inputs[0].dims)
    output = ir.Value(name="output", shape=shape, type=ir.TensorType(dtype))
    node = ir.node(name, inputs, {**attributes, **PLUGIN_ATTRIBUTES}, domain=DOMAIN, outputs=[output])
    graph = ir.Graph(
        inputs, [output], nodes=[node], name=name, opset_imports={"": OPSET_VERSION, DOMAIN: DOMAIN_VERSION}
    )
    return ir.Model(graph, ir_version=10, functions=[op.function(bounds)])


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    """Checked in full, then opened in stock onnxruntime."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # tiny tensors, and the tests have workers of their own
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return opened.run(["output"], inputs)[0]
