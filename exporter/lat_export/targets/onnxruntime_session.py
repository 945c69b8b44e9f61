"""One way to open an ONNX model in onnxruntime on the CPU, for every target that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export import native
from lat_export.errors import InputError, MissingError, first_line
from lat_export.targets.contract import Runner
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import onnxruntime

SEVERITY_ERROR = 3


def session(
    model: Path,
    optimised_copy: Path | None = None,
    native_ops: Path | None = None,
    configure: Callable[[onnxruntime.SessionOptions], None] | None = None,
) -> onnxruntime.InferenceSession:
    """A CPU session.

    Args:
        optimised_copy: where to save what onnxruntime made of the graph.
        native_ops: library whose ops run in place of function bodies.
        configure: sets further options.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    if configure is not None:
        configure(options)
    if native_ops is not None:
        _register(options, native_ops)
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


def _register(options: onnxruntime.SessionOptions, native_ops: Path) -> None:
    try:
        options.register_custom_ops_library(str(native_ops))
    except Exception as error:  # as above
        raise MissingError(
            "onnxruntime does not take the native ops", got=first_line(error), hint=native.ADVICE
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
def open_runner(model: Path, signature: Signature, native_ops: Path | None = None) -> Iterator[Runner]:
    """A runner over `model`; every input is checked against the signature before it reaches the session."""
    opened = session(model, native_ops=native_ops)
    names = [spec.name for spec in signature.outputs]

    def run(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        signature.check_inputs(inputs)
        return dict(zip(names, opened.run(names, inputs), strict=True))

    yield run
