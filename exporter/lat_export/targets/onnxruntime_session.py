"""One way to open an ONNX model in onnxruntime on the CPU, for every target that needs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lat_export import native
from lat_export.errors import InputError, MissingError, first_line
from lat_export.onnx_file import save
from lat_export.onnxruntime_options import default_options
from lat_export.ops import OPS
from lat_export.precision import widen_outputs
from lat_export.targets.contract import Runner, WatchedRunner
from lat_export.targets.half_on_cpu import compute_in_float32, has_bfloat16
from lat_export.types import BODY, NATIVE, Signature

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import onnxruntime


def session(
    model: Path,
    optimised_copy: Path | None = None,
    native_ops: Path | None = None,
    configure: Callable[[onnxruntime.SessionOptions], None] | None = None,
) -> onnxruntime.InferenceSession:
    """A CPU session.

    A bfloat16 model, which onnxruntime's CPU provider does not take, is rewritten to compute in float32 first.

    Args:
        optimised_copy: where to save what onnxruntime made of the graph.
        native_ops: library whose ops run in place of function bodies.
        configure: sets further options.
    """
    import onnxruntime

    def opened(file: Path) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    options = default_options()
    if configure is not None:
        configure(options)
    if native_ops is not None:
        _register(options, native_ops)
    if optimised_copy is not None:
        # Extended, not all: layout changes of the last level tie the file to this machine's processor.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimised_copy)
    try:
        return opened(model)
    except Exception as error:  # onnxruntime's errors share no base class of their own
        if "NOT_IMPLEMENTED" in str(error) and (program := _in_float32(model, native_ops)) is not None:
            with TemporaryDirectory(prefix="lat-export-") as scratch:
                save(program, Path(scratch) / model.name)
                return opened(Path(scratch) / model.name)
        raise InputError(
            f"onnxruntime cannot load {model.name}",
            got=str(error).splitlines()[0][:300],
            where={"stage": "run (onnxruntime)"},
        ) from error


def _in_float32(model: Path, native_ops: Path | None) -> onnx_ir.Model | None:
    """A bfloat16 model as the CPU can run it; None of any other model."""
    import onnx_ir as ir

    program = ir.load(model)
    if not has_bfloat16(program):
        return None
    compute_in_float32(program, ir.DataType.BFLOAT16, _run_natively(native_ops))
    return program


def _run_natively(native_ops: Path | None) -> set[str]:
    """Names of the `lat` ops that a library runs, all of them in half precision, too."""
    built = native.plugins() if native_ops is not None else None
    return {name for name, op in OPS.items() if built is not None and op.stem in built.onnxruntime}


def _register(options: onnxruntime.SessionOptions, native_ops: Path) -> None:
    try:
        options.register_custom_ops_library(str(native_ops))
    except Exception as error:  # as above
        raise MissingError(
            "onnxruntime does not take the native ops", got=first_line(error), hint=native.ADVICE
        ) from error


def session_of_part(
    program: onnx_ir.Model, weights_folder: Path, native_ops: Path | None = None
) -> onnxruntime.InferenceSession:
    """A CPU session over a model in memory, whose external weights lie in `weights_folder`.

    It gives bfloat16 values, which numpy does not have, as float32; the model is rewritten for that.
    """
    import onnx_ir
    import onnxruntime

    if has_bfloat16(program):
        widen_outputs(program.graph, onnx_ir.DataType.BFLOAT16)
        compute_in_float32(program, onnx_ir.DataType.BFLOAT16, _run_natively(native_ops))
    options = default_options()
    if native_ops is not None:
        _register(options, native_ops)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
    model = onnx_ir.to_proto(program).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def open_runner(
    model: Path,
    signature: Signature,
    native_ops: Path | None = None,
    watched: Iterable[str] = (),
    threads: int | None = None,
) -> Iterator[Runner]:
    """A runner over `model`; every input is checked against the signature before it reaches the session.

    Args:
        native_ops: library whose ops run in place of function bodies.
        watched: names of `lat` nodes; after its first run the runner's `forms` tells what ran each.
        threads: None for onnxruntime's default, one a core.
    """
    names = [spec.name for spec in signature.outputs]
    with WatchedSession(model, native_ops, watched, threads) as opened:

        def run(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            signature.check_inputs(inputs)
            return dict(zip(names, opened.run(names, inputs), strict=True))

        yield WatchedRunner(run, opened.forms)


class WatchedSession(AbstractContextManager["WatchedSession"]):
    """A CPU session that notes what ran its `lat` nodes in the first run that ends well.

    onnxruntime's profile of that run is asked, not the library's presence: a node that a kernel ran is in it under its
    own name and op; of one that was inlined, only the nodes of its body are.

    Attributes:
        forms: a form by node name; empty before the first run.
    """

    def __init__(
        self, model: Path, native_ops: Path | None, watched: Iterable[str], threads: int | None = None
    ) -> None:
        self.forms: dict[str, str] = {}
        self._watched = tuple(watched)
        self._threads = threads
        self._scratch = TemporaryDirectory(prefix="lat-export-")
        try:
            self._session = session(model, native_ops=native_ops, configure=self._configure)
        except BaseException:
            self._scratch.cleanup()
            raise
        self._profiling = bool(self._watched)

    def _configure(self, options: onnxruntime.SessionOptions) -> None:
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if self._watched:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._scratch.name) / "profile")

    def run(self, names: list[str], inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        found: list[np.ndarray[Any, Any]] = self._session.run(names, inputs)
        if self._profiling:
            native_nodes = _native_nodes(self._end_of_profile())
            self.forms.update({name: NATIVE if name in native_nodes else BODY for name in self._watched})
        return found

    def _end_of_profile(self) -> Path:
        self._profiling = False
        return Path(self._session.end_profiling())

    def __exit__(self, *_: object) -> None:
        if self._profiling:
            self._end_of_profile()
        self._scratch.cleanup()


def _native_nodes(profile: Path) -> set[str]:
    """Names of the nodes that ran as `lat` ops."""
    events = json.loads(profile.read_text())
    nodes = [event for event in events if event.get("cat") == "Node" and event["args"].get("op_name") in OPS]
    return {str(node["name"]).removesuffix("_kernel_time") for node in nodes}
