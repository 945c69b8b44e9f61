"""Plays Python's `tensorrt` to lat_export: THIS IS NOT TENSORRT, and says nothing of what TensorRT would do.

It has the recorded names and signatures of one real version (surface.json; PLAYED_TENSORRT names it), and nothing else:
a call of a method that this version lacks, or with other arguments, is an error, as with the real bindings. Behind them
is just enough to drive the builder from end to end: an "engine" is JSON of what it was asked for.

PLAYED_GPU=1: engines deserialise. PLAYED_PLUGINS: op types that a loaded library has. PLAYED_ERROR: the build logs it
and fails. PLAYED_PARSER: the parser refuses the first node with it. PLAYED_CAPTURE: a run inside of a capture logs it
and fails. A context runs on the driver of tests/native/cuda_driver, and writes down its calls there.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tensorrt_api.record import surfaces

__version__ = os.environ.get("PLAYED_TENSORRT", "11.4.0.106")
SURFACE = surfaces()[__version__]
CLASSES = SURFACE["classes"]
HAS_GPU = bool(os.environ.get("PLAYED_GPU"))
for _name, _members in SURFACE["enums"].items():
    globals()[_name] = enum.Enum(_name, {member: at for at, member in enumerate(_members)})
    globals()[_name].__int__ = lambda self: self.value
KINDS = {"str": str, "bool": bool, "typing.SupportsInt": int, "int": int, "Dims": (list, tuple), "list[str]": list}


def fits(value: Any, kind: str) -> bool:
    """Whether pybind would take the value for an argument of this kind; of kinds that are not known it would."""
    kind = kind.partition(" = ")[0].strip()
    if kind in ("Buffer", "buffer", "typing_extensions.Buffer"):
        return isinstance(value, bytes | bytearray | memoryview | IHostMemory)
    known = KINDS.get(kind) or globals().get(kind)
    return known is None or isinstance(value, known)  # type: ignore[arg-type]


def demand_signature(owner: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signatures = [one for one in CLASSES[owner][name] if not name.startswith("_") or one.startswith("__init__(self:")]
    if not signatures:
        return  # the real class is made by others only
    for signature in signatures:
        inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
        parts = [part.partition(": ") for part in re.split(r", (?=\w+: )", inside)][1:]
        kinds = {parameter: kind for parameter, _, kind in parts}
        given = dict(zip(kinds, args, strict=False)) | kwargs
        wanted = {parameter for parameter, kind in kinds.items() if " = " not in kind}
        sound = len(args) <= len(kinds) and wanted <= set(given) <= set(kinds)
        if sound and all(fits(value, kinds[parameter]) for parameter, value in given.items()):
            return
    raise TypeError(f"{owner}.{name}(): incompatible arguments {args} {kwargs}; recorded: {signatures}")


NOT_SET = object()


class Played:
    """What a subclass defines and this version does not have is taken away; what it has is called as it is recorded."""

    def __init_subclass__(cls) -> None:
        cls.recorded = CLASSES.get(cls.__name__, {})  # type: ignore[attr-defined]
        for name, member in list(vars(cls).items()):
            if name.startswith("_") and name != "__init__":
                continue
            if name not in cls.recorded:  # type: ignore[attr-defined]
                if callable(member) or isinstance(member, property):
                    delattr(cls, name)
            elif callable(member) and not isinstance(member, type):
                setattr(cls, name, _checked(cls.__name__, name, member))
        for name, signatures in cls.recorded.items():  # type: ignore[attr-defined]
            if name not in vars(cls) and "".join(signatures).startswith("property "):
                setattr(cls, name, NOT_SET)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            signature = "".join(self.recorded.get(name, ()))  # type: ignore[attr-defined]
            if not signature.startswith("property "):
                raise AttributeError(f"{type(self).__name__} has no property {name} in TensorRT {__version__}")
            if not fits(value, signature.rpartition("-> ")[2]):
                raise TypeError(f"{type(self).__name__}.{name} = {value!r}; recorded: {signature}")
        object.__setattr__(self, name, value)


def _checked(owner: str, name: str, method: Any) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        demand_signature(owner, name, args, kwargs)
        return method(self, *args, **kwargs)

    return call


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IHostMemory(bytes):
    """The real one is no bytes, but gives them wherever a buffer is wanted."""

    nbytes = property(lambda self: len(self))


class IPluginRegistry(Played):
    _loaded: list[str]

    def __init__(self) -> None:
        self._loaded = []

    def load_library(self, plugin_path: str) -> object:
        self._loaded.append(plugin_path)
        return self


class ITimingCache(Played):
    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._blob + b"timed;")


class IBuilderConfig(Played):
    def __init__(self) -> None:
        self._flags: set[str] = {"TF32"}
        self._profiles: list[Any] = []
        self._pools: dict[str, int] = {}
        self._cache: ITimingCache | None = None
        self.plugins_to_serialize: list[str] = []

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return not cache._blob.startswith(b"other")

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    def _asked(self) -> dict[str, Any]:
        names = ("builder_optimization_level", "hardware_compatibility_level", "profiling_verbosity")
        set_ones = {name: getattr(self, name) for name in names if name in vars(self)}
        return {
            "flags": sorted(self._flags),
            "pools": self._pools,
            "plugins_to_serialize": self.plugins_to_serialize,
            **{name: getattr(value, "name", value) for name, value in set_ones.items()},
            "profiles": [profile._shapes for profile in self._profiles],
        }


class IOptimizationProfile(Played):
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = [list(min), list(opt), list(max)]


class ITensor(Played):
    def __init__(self, value: Any) -> None:
        self._value = value

    name = property(lambda self: self._value.name)
    dtype = property(lambda self: f"DataType.{self._value.dtype.name}")
    shape = property(lambda self: tuple(dim if isinstance(dim, int) else -1 for dim in self._value.shape))


class ILayer(Played):
    def __init__(self, name: str, kind: Any) -> None:
        self._name, self._kind = name, kind

    name = property(lambda self: self._name)
    type = property(lambda self: self._kind)
    num_outputs = property(lambda self: 0)


class INetworkDefinition(Played):
    def __init__(self, registry: IPluginRegistry) -> None:
        self._registry, self._graph = registry, None

    num_inputs = property(lambda self: len(self._graph.inputs))
    num_outputs = property(lambda self: len(self._graph.outputs))
    num_layers = property(lambda self: len(self._graph))

    def get_input(self, index: int) -> ITensor:
        return ITensor(self._graph.inputs[index])

    def get_output(self, index: int) -> ITensor:
        return ITensor(self._graph.outputs[index])

    def get_layer(self, index: int) -> ILayer:
        node = self._graph[index]
        known = os.environ.get("PLAYED_PLUGINS", "").split(",") if self._registry._loaded else []
        kinds = globals()["LayerType"]
        return ILayer(node.name, kinds.PLUGIN_V3 if node.op_type in known else kinds.SHUFFLE)


class ParserError(Played):
    def __init__(self, node: Any) -> None:
        self._node = node

    def desc(self) -> str:
        return os.environ["PLAYED_PARSER"]

    def node(self) -> int:
        return 0

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class OnnxParser(Played):
    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network = network

    num_errors = property(lambda self: int("PLAYED_PARSER" in os.environ))

    def parse_from_file(self, model: str) -> bool:
        import onnx_ir

        self._network._graph = onnx_ir.load(model).graph
        return "PLAYED_PARSER" not in os.environ

    def get_error(self, index: int) -> ParserError:
        return ParserError(self._network._graph[0])


class Builder(Played):
    def __init__(self, logger: Any) -> None:
        self._log, self._registry = logger, IPluginRegistry()

    def get_plugin_registry(self) -> IPluginRegistry:
        return self._registry

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(self._registry)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        if "PLAYED_ERROR" in os.environ:
            self._log.log(ILogger.ERROR, os.environ["PLAYED_ERROR"])
            return None
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        plan = {
            "played": __version__,
            "loaded": self._registry._loaded,
            "layers": [[layer.name, layer.type.name] for layer in layers],
            "io": [network.get_input(at).name for at in range(network.num_inputs)],
            "dims": {value.name: [str(dim) for dim in value.shape] for value in network._graph.inputs},
            "outputs": {
                value.name: {"dims": [str(dim) for dim in value.shape], "dtype": value.dtype.name}
                for value in network._graph.outputs
            },
            **config._asked(),
        }
        return IHostMemory(json.dumps(plan).encode())


class EngineInspector(Played):
    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan

    def get_engine_information(self, format: Any) -> str:
        layers = [{"Name": name, "LayerType": kind} for name, kind in self._plan["layers"]]
        return json.dumps({"Layers": layers, "Bindings": self._plan["io"]})


class ICudaEngine(Played):
    def __init__(self, plan: dict[str, Any], log: Any) -> None:
        self._plan, self._log = plan, log

    num_layers = property(lambda self: len(self._plan["layers"]))
    num_io_tensors = property(lambda self: len(self._names))
    num_optimization_profiles = property(lambda self: len(self._plan["profiles"]))
    device_memory_size_v2 = property(lambda self: 4096)
    refittable = property(lambda self: bool({"REFIT", "REFIT_IDENTICAL"} & set(self._plan["flags"])))

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._plan)

    _names = property(lambda self: [*self._plan["io"], *self._plan["outputs"]])

    def get_tensor_name(self, index: int) -> str:
        name: str = self._names[index]
        return name

    def get_tensor_mode(self, name: str) -> Any:
        modes = globals()["TensorIOMode"]
        return modes.INPUT if name in self._plan["io"] else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return globals()["DataType"]["INT64" if name in self._plan["io"] else self._plan["outputs"][name]["dtype"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, -1)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        return self._plan["profiles"][profile_index][name]

    def create_execution_context(self, *args: Any, **kwargs: Any) -> IExecutionContext:
        return IExecutionContext(self, *args)

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_serialization_config(self) -> ISerializationConfig:
        return ISerializationConfig()

    def serialize_with_config(self, arg0: ISerializationConfig) -> IHostMemory:
        return IHostMemory(json.dumps({**self._plan, "written_with": sorted(arg0._flags)}).encode())


class IRuntimeConfig(Played):
    """Of TensorRT-RTX alone."""


US_OF_A_RUN, FILLING = 250.0, 1.5


class IExecutionContext(Played):
    """One run takes `US_OF_A_RUN` on the played driver's clock, and fills float outputs with `FILLING`.

    As the documentation has it: shapes before memory, both before a run; the first run after new shapes is no captured
    one; all of it within the ranges of the profile.
    """

    def __init__(self, engine: ICudaEngine, config: IRuntimeConfig | None = None) -> None:
        self._plan, self._log, self._driver = engine._plan, engine._log, ctypes.CDLL("libcuda.so.1")
        self._driver.played_work.argtypes = (ctypes.c_void_p, ctypes.c_double)
        for function in ("played_is_capturing", "played_break"):
            getattr(self._driver, function).argtypes = (ctypes.c_void_p,)
        self._profile, self._warm = 0, False
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        strategy = getattr(config, "dynamic_shapes_kernel_specialization_strategy", None)
        self._write("context" + (f" {strategy.name}" if strategy is not None else ""))

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._write(f"profile {profile_index}")
        self._profile, self._shapes = profile_index, {}
        return profile_index < len(self._plan["profiles"])

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self._write(f"shape {name} {list(shape)}")
        low, _, high = self._plan["profiles"][self._profile][name]
        if not all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True)):
            self._log.log(ILogger.ERROR, f"Supplied binding dimension {list(shape)} exceed min ~ max range at index 0")
            return False
        self._shapes[name], self._warm = tuple(shape), False
        return True

    def infer_shapes(self) -> list[str]:
        self._write("infer shapes")
        return [name for name in self._plan["io"] if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        sizes = {
            dim: size
            for at, shape in self._shapes.items()
            for dim, size in zip(self._plan["dims"][at], shape, strict=True)
        }
        known = {dim: size for dim, size in sizes.items() if not dim.isdecimal()}
        return tuple(eval(dim, {}, known) for dim in self._plan["outputs"][name]["dims"])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._write(f"address {name}")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        capturing = self._driver.played_is_capturing(stream_handle)
        self._write("execute in capture" if capturing else "execute")
        lacking = [name for name in self._plan["io"] if name not in self._shapes]
        lacking += [name for name in self._plan["outputs"] if name not in self._addresses]
        why = f"not set: {lacking}" if lacking else None
        if capturing:
            why = why or os.environ.get("PLAYED_CAPTURE") or (None if self._warm else "first run after new shapes")
        if why:
            self._log.log(ILogger.ERROR, why)
            self._driver.played_break(stream_handle)
            return False
        self._warm = True
        for name, output in self._plan["outputs"].items():
            count = 1
            for size in self.get_tensor_shape(name):
                count *= size
            assert output["dtype"] == "FLOAT"
            (ctypes.c_float * count).from_address(self._addresses[name])[:] = [FILLING] * count
        return not self._driver.played_work(stream_handle, US_OF_A_RUN)

    def _write(self, line: str) -> None:
        self._driver.played_log(b"%s", line.encode())


class ISerializationConfig(Played):
    def __init__(self) -> None:
        self._flags = {"EXCLUDE_WEIGHTS"}

    def clear_flag(self, flag: Any) -> bool:
        self._flags.discard(flag.name)
        return True

    def set_flag(self, flag: Any) -> bool:
        self._flags.add(flag.name)
        return True


class Runtime(Played):
    def __init__(self, logger: Any) -> None:
        self._log, self._registry = logger, IPluginRegistry()
        self.engine_host_code_allowed = False

    def get_plugin_registry(self) -> IPluginRegistry:
        return self._registry

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        plan = json.loads(bytes(serialized_engine))
        in_plugins = any(kind.startswith("PLUGIN") for _, kind in plan["layers"])
        embedded = plan["plugins_to_serialize"] and self.engine_host_code_allowed
        if not HAS_GPU or plan["played"] != __version__ or (in_plugins and not self._registry._loaded and not embedded):
            self._log.log(ILogger.ERROR, "played: this engine does not deserialise")
            return None
        return ICudaEngine(plan, self._log)


class Refitter(Played):
    def __init__(self, engine: ICudaEngine, logger: Any) -> None:
        self._engine, self._log = engine, logger
        self._missing = [] if "REFIT" not in engine._plan["flags"] else ["a"]

    def get_missing_weights(self) -> list[str]:
        return self._missing

    def refit_cuda_engine(self) -> bool:
        self._engine._plan["refitted"] = True
        return not self._missing


class OnnxParserRefitter(Played):
    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self._refitter = refitter

    num_errors = property(lambda self: 0)

    def refit_from_file(self, model: str) -> bool:
        self._refitter._missing.clear()
        self._refitter._engine._plan["refitted_from"] = Path(model).name
        return True
