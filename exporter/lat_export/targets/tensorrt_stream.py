"""An engine on a CUDA stream, for inputs of one set of shapes: as a server runs it that knows its requests' sizes.

`tensorrt_run` answers any call through Polygraphy; this is for whoever wants to see or capture the single steps. Never
run on a GPU so far.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.native.cuda_driver import CudaDriver, CudaError
from lat_export.targets.tensorrt_build import logger
from lat_export.targets.tensorrt_open import open_runtime
from lat_export.targets.trt_errors import explained

if TYPE_CHECKING:
    import numpy as np

    # As in tensorrt_build.
    import tensorrt

Arrays = dict[str, "np.ndarray[Any, Any]"]
# numpy's name by TensorRT's.
DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "BOOL": "bool", "UINT8": "uint8"}
GRAPH_FAILED = "the engine cannot be captured into a CUDA graph"


class EngineOnStream:
    """The steps of a request, each put on `stream`: `copy_in`, `execute` or `launch`, `copy_out`.

    Attributes:
        stream: of everything here.
        outputs: pinned arrays by name: what the last `copy_out` brought, once the stream is synchronised.
        device_bytes: "weights" and "context": what the device had less after each was made, tensors of requests apart;
            "activations by the engine": what it says that it needs for activations of its largest shapes.
    """

    def __init__(self, engine: Path, module: str, title: str, plugins: Sequence[Path], driver: CudaDriver) -> None:
        """
        Args:
            module, title: of the library.
            plugins: libraries that the engine's plugins are in.
        Raises:
            MissingError: the library does not open the engine on this machine.
        """
        self._trt, self._title, self._driver = importlib.import_module(module), title, driver
        self._log = logger(self._trt)
        before = driver.free_bytes()
        try:
            self._runtime = open_runtime(self._trt, plugins, self._log)
            opened = self._runtime.engine(engine)
        except TypeError as error:  # pybind11's, where the library makes no runtime
            self._log.errors.append(str(error))
            opened = None
        if opened is None:
            raise self._refused("does not open the engine", self._log.errors)
        self._engine: tensorrt.ICudaEngine = opened
        with_weights = driver.free_bytes()
        self._context: tensorrt.IExecutionContext = self._made_context()
        self.device_bytes = {
            "weights": before - with_weights,
            "context": with_weights - driver.free_bytes(),
            "activations by the engine": self._engine.device_memory_size_v2,
        }
        self.stream = driver.stream()
        self.outputs: Arrays = {}
        self._inputs: Arrays = {}
        self._addresses: dict[str, int] = {}
        self._graph: int | None = None

    def prepare(self, inputs: Arrays, profile: int) -> None:
        """Set profile and shapes, and take memory for every tensor.

        Args:
            inputs: arrays by input name; each run copies these.
            profile: that holds their shapes.
        Raises:
            InputError: the engine does not take them.
        """
        context = self._context
        self._inputs, self.outputs, self._graph = {}, {}, None
        if self._engine.num_optimization_profiles > 1:
            self._demand(context.set_optimization_profile_async(profile, self.stream), f"profile {profile}")
            self._driver.synchronise(self.stream)
        for name in self._names(self._trt.TensorIOMode.INPUT):
            if name not in inputs:
                raise InputError("the engine takes another input", got=name, expected=", ".join(inputs))
            given = inputs[name]
            self._demand(context.set_input_shape(name, given.shape), f"shape {given.shape} of {name}")
            self._inputs[name] = self._driver.pinned(given.shape, self._dtype(name))
            self._inputs[name][...] = given
            self._place(name, self._inputs[name].nbytes)
        if lacking := context.infer_shapes():
            raise InputError("the engine does not know all shapes", got=", ".join(lacking))
        for name in self._names(self._trt.TensorIOMode.OUTPUT):
            shape = tuple(context.get_tensor_shape(name))
            if min(shape, default=1) < 0:
                raise InputError(f"the shape of {name} hangs on data, which this run has no memory for", got=shape)
            self.outputs[name] = self._driver.pinned(shape, self._dtype(name))
            self._place(name, self.outputs[name].nbytes)

    def answer(self, inputs: Arrays, profile: int) -> Arrays:
        """A whole request of any shapes that the profile holds. Memory is taken for each: it is for few of them."""
        self.prepare(inputs, profile)
        self.copy_in()
        self.execute()
        self.copy_out()
        self._driver.synchronise(self.stream)
        return {name: array.copy() for name, array in self.outputs.items()}

    def copy_in(self) -> None:
        for name, array in self._inputs.items():
            self._driver.copy_in(self._addresses[name], array, self.stream)

    def execute(self) -> None:
        """
        Raises:
            InputError, MissingError: with the library's words.
        """
        said = len(self._log.errors)
        if not self._context.execute_async_v3(self.stream):
            raise self._refused("does not run the engine", self._log.errors[said:])

    def capture(self) -> None:
        """From now on `launch` runs what `execute` would: the same shapes, the same memory.

        Raises:
            LatExportError: it cannot be captured, with the library's words, or CUDA's.
        """
        # The first run after new shapes sets up what a capture forbids, and compiles in TensorRT-RTX.
        self.copy_in()
        self.execute()
        self._driver.synchronise(self.stream)
        capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX alone
        if capturable is not None and not capturable(self.stream):
            raise LatExportError(GRAPH_FAILED, got="is_stream_capturable: False")
        try:
            with self._driver.capture(self.stream) as capture:
                self.execute()
        except (CudaError, InputError, MissingError) as error:
            raise LatExportError(GRAPH_FAILED, got=f"{error.what}: {error.got}") from error
        self._graph = capture.graph

    def launch(self) -> None:
        """Needs `capture`."""
        assert self._graph is not None
        self._driver.launch(self._graph, self.stream)

    def copy_out(self) -> None:
        for name, array in self.outputs.items():
            self._driver.copy_out(array, self._addresses[name], self.stream)

    def _made_context(self) -> tensorrt.IExecutionContext:
        engine: Any = self._engine
        strategies = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            context = engine.create_execution_context()
        else:
            # TensorRT-RTX compiles kernels for the sizes it meets while others already run: what is timed, or captured,
            # must be those that it ends with.
            config = engine.create_runtime_config()
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            context = engine.create_execution_context(config)
        if context is None:
            raise self._refused("gives the engine no execution context", self._log.errors)
        made: tensorrt.IExecutionContext = context
        return made

    def _names(self, mode: Any) -> list[str]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return [name for name in names if self._engine.get_tensor_mode(name) == mode]

    def _dtype(self, name: str) -> str:
        called = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
        if called not in DTYPES:
            raise InputError(f"{name} has a type that numpy has not", got=called, expected=", ".join(DTYPES))
        return DTYPES[called]

    def _place(self, name: str, size: int) -> None:
        self._addresses[name] = self._driver.allocate(size)
        self._demand(self._context.set_tensor_address(name, self._addresses[name]), f"the memory of {name}")

    def _demand(self, done: bool, what: str) -> None:
        if not done:
            raise self._refused(f"does not take {what}", self._log.errors)

    def _refused(self, doing: str, messages: Sequence[str]) -> LatExportError:
        return explained(self._title, list(messages) or ["no reason given"], "run", doing)
