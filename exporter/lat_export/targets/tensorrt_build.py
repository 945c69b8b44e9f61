"""Builds one engine in a process of its own: `python -m lat_export.targets.tensorrt_build REQUEST.json`.

Why a process: TensorRT-RTX 1.7 aborts or segfaults on some graphs (a shape that depends on data, a registered plugin);
the command line must outlive that and say what happened. The request and the answer are JSON files.

The calls are the ones that TensorRT 10.8+, TensorRT 11 and TensorRT-RTX share; those of TensorRT-RTX alone are on
objects that are not typed. Polygraphy's runner runs engines (tensorrt_run), but its loaders do not build them: a build
kit takes this very file to machines that have TensorRT and nothing else, errors and memory are wanted as data where
Polygraphy prints them, and it has no option for plugins that an engine is to hold.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The stubs of tests/stubs, recorded from real bindings: what TensorRT 10.8, 10.16, 11.0 and 11.4 have in common.
    # The module itself is either library's, imported by name.
    import tensorrt

# TensorRT builds an engine all the same, and it fails at run time.
UNUSABLE_PROFILE = "not self-consistent"
# The first: nodes of a function body carry one name in every layer. The second: inputs are int64 by our own signature.
HARMLESS_WARNINGS = ("already exists, the output tensors of this new instance", "has Int64 binding")
# As in "Total Activation Memory: 1234 bytes".
MEMORY = re.compile(r"\b((?:Total|Max) [A-Z][A-Za-z ]*Memory): (\d+)")


def build(request: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        request: "module" (tensorrt or tensorrt_rtx), "model", "engine" (paths), "profiles" (of each {input: [min, opt,
            max]}, all of them lists of sizes), "plugins" (library paths, TensorRT only), "options" (what
            `lat_export.engine_options.EngineOptions.to_json` gives) and "timing_cache" (path), which may be left out.
    Returns:
        "errors" (empty where the engine was written), "warnings", "memory" (bytes, by the names that the builder logs),
        "checked", "inputs", "outputs", "plugin_nodes", "network" (its layers: "name", "type", "precision"),
        "inspector" (JSON of the engine's own, where it was opened), "timing_cache" (digests), "version".
    """
    trt = importlib.import_module(request["module"])
    log = logger(trt)
    answer: dict[str, Any] = {"version": trt.__version__, "errors": [], "warnings": log.warnings, "memory": log.memory}
    builder: tensorrt.Builder = trt.Builder(log)
    for library in request["plugins"]:
        builder.get_plugin_registry().load_library(library)
    network = builder.create_network(_strongly_typed(trt))
    parser: tensorrt.OnnxParser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(request["model"]):
        answer["errors"] = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        return answer

    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
    refused = _configure(trt, config, request) or _read_timing_cache(config, request, answer)
    if refused:
        answer["errors"] = [refused]
        return answer
    for index, shapes in enumerate(request["profiles"]):
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in shapes.items():
            profile.set_shape(name, smallest, usual, largest)
        if config.add_optimization_profile(profile) < 0:
            answer["errors"] = log.errors or [f"optimisation profile {index} was refused"]
            return answer
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        answer["errors"] = log.errors or ["the builder gave no engine and no reason"]
        return answer
    unusable = [warning for warning in log.warnings if UNUSABLE_PROFILE in warning]
    if unusable:
        answer["errors"] = unusable
        return answer
    _write_timing_cache(config, request, answer)
    runtime: tensorrt.Runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # of this very build: plugins that it embeds, a lean runtime
    if not request.get("options", {}).get("embed_plugins"):
        for library in request["plugins"]:  # its registry is not the builder's
            runtime.get_plugin_registry().load_library(library)
    answer["checked"], answer["inspector"] = _check(trt, runtime, engine)
    log.errors.clear()  # what deserialising says of a missing GPU is told by "checked"
    Path(request["engine"]).write_bytes(engine)
    answer["inputs"] = [_tensor(network.get_input(index)) for index in range(network.num_inputs)]
    answer["outputs"] = [_tensor(network.get_output(index)) for index in range(network.num_outputs)]
    answer["plugin_nodes"] = _plugin_nodes(trt, network)
    answer["network"] = [_layer(network.get_layer(index)) for index in range(network.num_layers)]
    return answer


VERBOSITIES = {"none": "NONE", "layer-names": "LAYER_NAMES_ONLY", "detailed": "DETAILED"}
HARDWARE_LEVELS = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}


def _configure(trt: ModuleType, config: tensorrt.IBuilderConfig, request: dict[str, Any]) -> str | None:
    """What the options ask for; the reason where the library refuses one.

    That it has the names was asked before (`lat_export.targets.trt_options`); in a kit nobody did, and an error names
    what is missing.
    """
    options = request.get("options", {})
    if "workspace_bytes" in options:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace_bytes"])
    if "opt_level" in options:
        config.builder_optimization_level = options["opt_level"]
    if "hardware_compatible" in options:
        level = HARDWARE_LEVELS[options["hardware_compatible"]]
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if "profiling_verbosity" in options:
        verbosity = VERBOSITIES[options["profiling_verbosity"]]
        config.profiling_verbosity = getattr(trt.ProfilingVerbosity, verbosity)
    flags = ["VERSION_COMPATIBLE"] * bool(options.get("version_compatible"))
    flags += ["REFIT"] * bool(options.get("refittable"))
    if options.get("strip_weights"):
        # Weights of this checkpoint alone cost no speed; those of any other need REFIT.
        flags += ["STRIP_PLAN"] if options.get("refittable") else ["STRIP_PLAN", "REFIT_IDENTICAL"]
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if options.get("embed_plugins"):
        config.plugins_to_serialize = request["plugins"]
    return _set_capabilities(trt, config, options.get("compute_capabilities", []))


def capability_name(capability: str) -> str:
    """`"SM86"` of `"8.6"`, as TensorRT-RTX calls it."""
    return "CURRENT" if capability == "current" else "SM" + capability.replace(".", "")


def _set_capabilities(trt: ModuleType, config: Any, capabilities: list[str]) -> str | None:
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, capability_name(capability)), index):
            return f"compute capability {capability} was refused"
    return None


def _read_timing_cache(config: tensorrt.IBuilderConfig, request: dict[str, Any], answer: dict[str, Any]) -> str | None:
    path = request.get("timing_cache")
    if path is None:
        return None
    blob = Path(path).read_bytes() if Path(path).is_file() else b""
    answer["timing_cache"] = {"read_sha256": hashlib.sha256(blob).hexdigest() if blob else None}
    cache = config.create_timing_cache(blob)
    if cache is None or not config.set_timing_cache(cache, False):
        return f"the timing cache {Path(path).name} is of another GPU or version, or no timing cache"
    return None


def _write_timing_cache(config: tensorrt.IBuilderConfig, request: dict[str, Any], answer: dict[str, Any]) -> None:
    """Whole or not at all: another build may read it meanwhile. Of two that write, the later one is kept."""
    if request.get("timing_cache") is None:
        return
    path = Path(request["timing_cache"])
    blob = bytes(config.get_timing_cache().serialize())
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_bytes(blob)
    half.replace(path)
    answer["timing_cache"] |= {"written_sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}


def _check(trt: ModuleType, runtime: tensorrt.Runtime, engine: tensorrt.IHostMemory) -> tuple[str, str | None]:
    """Whether the engine opens again, and what its inspector tells then, as JSON.

    Without a CUDA driver only its header can be asked.
    """
    opened = runtime.deserialize_cuda_engine(engine)
    if opened is not None:
        inspector = opened.create_engine_inspector()
        return "deserialised", inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return _header_of(trt, runtime, engine), None


def _header_of(trt: ModuleType, runtime: Any, engine: tensorrt.IHostMemory) -> str:
    if not hasattr(runtime, "get_engine_validity"):
        return "not deserialised: this machine has no GPU that takes it"
    _, diagnostics = runtime.get_engine_validity(engine)
    malformed = int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE) | int(
        trt.EngineInvalidityDiagnostics.VERSION_MISMATCH
    )
    if int(diagnostics) & malformed:
        raise RuntimeError(f"the library calls its own engine malformed (diagnostics {int(diagnostics)})")
    return "header only: deserialising needs a GPU that takes it"


def logger(trt: ModuleType) -> Any:
    """A logger of the library that keeps `errors`, `warnings` and `memory` (bytes, by the names that it logs)."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.warnings: list[str] = []
            self.errors: list[str] = []
            self.memory: dict[str, int] = {}

        def log(self, severity: Any, message: str) -> None:
            self.memory.update((name, int(size)) for name, size in MEMORY.findall(message))
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING and not any(part in message for part in HARMLESS_WARNINGS):
                self.warnings.append(message)

    return Log()


def _strongly_typed(trt: ModuleType) -> int:
    """The flag of TensorRT 10 and RTX; TensorRT 11 knows no other networks and may no longer have it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parser_error(error: tensorrt.ParserError) -> str:
    return f"{error.desc()} (node {error.node()} {error.node_name()!r}, {error.node_operator()})"


def _tensor(tensor: tensorrt.ITensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": str(tensor.dtype).rpartition(".")[2], "shape": list(tensor.shape)}


def _layer(layer: tensorrt.ILayer) -> dict[str, str]:
    """Its name, type, and the element types of what it gives."""
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    precisions = [str(output.dtype).rpartition(".")[2] for output in outputs if output is not None]
    return {
        "name": layer.name,
        "type": str(layer.type).rpartition(".")[2],
        "precision": ", ".join(dict.fromkeys(precisions)),
    }


def _plugin_nodes(trt: ModuleType, network: tensorrt.INetworkDefinition) -> list[str]:
    kinds = {getattr(trt.LayerType, kind, None) for kind in ("PLUGIN_V3", "PLUGIN_V2")} - {None}
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [layer.name for layer in layers if layer.type in kinds]


if __name__ == "__main__":
    request_file = Path(sys.argv[1])
    asked = json.loads(request_file.read_text())
    Path(asked["answer"]).write_text(json.dumps(build(asked)))
