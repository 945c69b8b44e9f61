"""One way to open an ONNX model in onnxruntime on the CPU, for every target that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.targets.contract import Runner
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import onnxruntime

SEVERITY_ERROR = 3


def session(model: Path, optimised_copy: Path | None = None) -> onnxruntime.InferenceSession:
    """A CPU session; with `optimised_copy`, what onnxruntime made of the graph is saved there."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    if optimised_copy is not None:
        # Extended, not all: layout changes of the last level tie the file to this machine's processor.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimised_copy)
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise InputError(
            f"onnxruntime cannot load {model.name}",
            got=str(error).splitlines()[0][:300],
            where={"stage": "run (onnxruntime)"},
        ) from error


def session_of_part(program: onnx_ir.Model, weights_folder: Path) -> onnxruntime.InferenceSession:
    """A CPU session over a model in memory, whose external weights lie in `weights_folder`."""
    import onnx_ir
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
    model = onnx_ir.to_proto(program).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def open_runner(model: Path, signature: Signature) -> Iterator[Runner]:
    """A runner over `model`; every input is checked against the signature before it reaches the session."""
    opened = session(model)
    names = [spec.name for spec in signature.outputs]

    def run(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        signature.check_inputs(inputs)
        return dict(zip(names, opened.run(names, inputs), strict=True))

    yield run
