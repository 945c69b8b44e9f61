"""Builds one engine in a process of its own: `python -m lat_export.targets.tensorrt_build REQUEST.json`.

Why a process: TensorRT-RTX 1.7 aborts or segfaults on some graphs (a shape that depends on data, a registered plugin);
the command line must outlive that and say what happened. The request and the answer are JSON files.

The calls are the ones that TensorRT 10.8+, TensorRT 11 and TensorRT-RTX share.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

# TensorRT builds an engine all the same, and it fails at run time.
UNUSABLE_PROFILE = "not self-consistent"
# The first: nodes of a function body carry one name in every layer. The second: inputs are int64 by our own signature.
HARMLESS_WARNINGS = ("already exists, the output tensors of this new instance", "has Int64 binding")
# As in "Total Activation Memory: 1234 bytes".
MEMORY = re.compile(r"\b((?:Total|Max) [A-Z][A-Za-z ]*Memory): (\d+)")


def build(request: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        request: "module" (tensorrt or tensorrt_rtx), "model", "engine" (paths), "profile" ({input: [min, opt, max]},
            each a list of sizes), "plugins" (library paths, TensorRT only).
    Returns:
        "errors" (empty where the engine was written), "warnings", "memory" (bytes, by the names that the builder logs),
        "checked", "inputs", "outputs", "plugin_nodes",
        "version".
    """
    trt = importlib.import_module(request["module"])
    log = _logger(trt)
    answer: dict[str, Any] = {"version": trt.__version__, "errors": [], "warnings": log.warnings, "memory": log.memory}
    builder = trt.Builder(log)
    for library in request["plugins"]:
        builder.get_plugin_registry().load_library(library)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(request["model"]):
        answer["errors"] = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        return answer

    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in request["profile"].items():
        profile.set_shape(name, smallest, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        answer["errors"] = log.errors or ["the optimisation profile was refused"]
        return answer
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        answer["errors"] = log.errors or ["the builder gave no engine and no reason"]
        return answer
    unusable = [warning for warning in log.warnings if UNUSABLE_PROFILE in warning]
    if unusable:
        answer["errors"] = unusable
        return answer
    runtime = trt.Runtime(log)
    for library in request["plugins"]:  # its registry is not the builder's
        runtime.get_plugin_registry().load_library(library)
    answer["checked"] = _check(trt, runtime, engine)
    log.errors.clear()  # what deserialising says of a missing GPU is told by "checked"
    Path(request["engine"]).write_bytes(engine)
    answer["inputs"] = [_tensor(network.get_input(index)) for index in range(network.num_inputs)]
    answer["outputs"] = [_tensor(network.get_output(index)) for index in range(network.num_outputs)]
    answer["plugin_nodes"] = _plugin_nodes(trt, network)
    return answer


def _check(trt: ModuleType, runtime: Any, engine: Any) -> str:
    """Whether the engine opens again; without a CUDA driver only its header can be asked."""
    if runtime.deserialize_cuda_engine(engine) is not None:
        return "deserialised"
    if not hasattr(runtime, "get_engine_validity"):
        return "not deserialised: this machine has no GPU that takes it"
    _, diagnostics = runtime.get_engine_validity(engine)
    malformed = int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE) | int(
        trt.EngineInvalidityDiagnostics.VERSION_MISMATCH
    )
    if int(diagnostics) & malformed:
        raise RuntimeError(f"the library calls its own engine malformed (diagnostics {int(diagnostics)})")
    return "header only: deserialising needs a GPU that takes it"


def _logger(trt: ModuleType) -> Any:
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


def _parser_error(error: Any) -> str:
    return f"{error.desc()} (node {error.node()} {error.node_name()!r}, {error.node_operator()})"


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": str(tensor.dtype).rpartition(".")[2], "shape": list(tensor.shape)}


def _plugin_nodes(trt: ModuleType, network: Any) -> list[str]:
    kinds = {getattr(trt.LayerType, kind, None) for kind in ("PLUGIN_V3", "PLUGIN_V2")} - {None}
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [layer.name for layer in layers if layer.type in kinds]


if __name__ == "__main__":
    request_file = Path(sys.argv[1])
    asked = json.loads(request_file.read_text())
    Path(asked["answer"]).write_text(json.dumps(build(asked)))
