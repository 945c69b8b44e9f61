"""How an ONNX model is written: one file while it is small, weights in a file beside it above that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

# protobuf ends at 2 GiB. Far below that it already costs: one file is held in memory twice over while it is written,
# and again while it is read, where weights beside it are streamed out and mapped in.
EXTERNAL_DATA_ABOVE_BYTES = 2**28


def save(model: onnx_ir.Model, path: Path) -> None:
    """Write `model` to `path`; above the limit the weights go to `<path>.data`."""
    import onnx_ir

    weights_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if weights_bytes > EXTERNAL_DATA_ABOVE_BYTES:
        onnx_ir.save(model, path, external_data=f"{path.name}.data")
        return
    # Weights that were read from a file beside another model would be looked for beside this one.
    onnx_ir.save(onnx_ir.external_data.load_to_model(model), path)
