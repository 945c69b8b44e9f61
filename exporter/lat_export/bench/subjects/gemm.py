"""`gemm`: the rate of onnxruntime's matrix product at the shape in which most of the model's linear operations are."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from lat_export.bench.floor import linear_layers, usual_weight
from lat_export.bench.subjects.contract import Arrays, Opened, SubjectKind
from lat_export.ops import OPSET_VERSION
from lat_export.targets import PORTABLE_MODEL

if TYPE_CHECKING:
    import numpy as np

    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point

SEED = 20261120
# A run repeats the product until it is long enough for a clock and short enough for a round.
RUN_S, MOST_PRODUCTS = 0.1, 64


class OpenedProduct(Opened):
    """(M, K) by a (K, N) weight, as often in a run as takes about `RUN_S`."""

    def __init__(self, rows: int, inner: int, columns: int, threads: int) -> None:
        import numpy as np
        import onnxruntime

        rng = np.random.default_rng(SEED)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        weight = rng.standard_normal((inner, columns), dtype=np.float32)
        self._session = onnxruntime.InferenceSession(product_model(weight), options, providers=["CPUExecutionProvider"])
        self._rows = rng.standard_normal((rows, inner), dtype=np.float32)
        self._products = 1
        self.run()
        started = time.perf_counter()
        self.run()
        self._products = max(1, min(MOST_PRODUCTS, math.ceil(RUN_S / (time.perf_counter() - started))))
        self.operations = 2 * rows * inner * columns * self._products

    def run(self) -> Arrays:
        for _ in range(self._products):
            self._session.run(None, {"rows": self._rows})
        return {}


def product_model(weight: np.ndarray[Any, Any]) -> bytes:
    """rows (M, K) -> (M, N), the weight a part of the model, as in a linear layer."""
    import onnx_ir as ir

    kind = ir.TensorType(ir.DataType.FLOAT)
    rows = ir.Value(name="rows", shape=ir.Shape(["M", weight.shape[0]]), type=kind)
    factor = ir.Value(name="weight", const_value=ir.tensor(weight, name="weight"))
    node = ir.node("MatMul", [rows, factor])
    node.outputs[0].name, node.outputs[0].type = "product", kind
    graph = ir.Graph(
        [rows], node.outputs, nodes=[node], initializers=[factor], name="product", opset_imports={"": OPSET_VERSION}
    )
    serialised: bytes = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return serialised


class GemmSubject(SubjectKind):
    name = "gemm"
    title = "onnxruntime's matrix product"
    only_when_named = "it is measured in any case, for the floor"

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        layers = linear_layers(given.bundle.folder / PORTABLE_MODEL)
        inner, columns = usual_weight(layers, point.sizes)
        return {"rows": point.all_tokens, "inner": inner, "columns": columns}

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        return OpenedProduct(arguments["rows"], arguments["inner"], arguments["columns"], threads)


SUBJECT = GemmSubject()
