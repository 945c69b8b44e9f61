"""How an ONNX model is written: one file while protobuf can hold it, weights beside it above that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

# protobuf ends at 2 GiB; the rest is room for the graph itself.
EXTERNAL_DATA_ABOVE_BYTES = 2**31 - 2**26


def save(model: onnx_ir.Model, path: Path) -> None:
    """Write `model` to `path`; above the limit the weights go to `<path>.data`."""
    import onnx_ir

    weights_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = f"{path.name}.data" if weights_bytes > EXTERNAL_DATA_ABOVE_BYTES else None
    onnx_ir.save(model, path, external_data=external)
