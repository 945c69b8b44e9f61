"""What an engine tells of itself: `python -m lat_export.targets.tensorrt_inspect REQUEST.json`, a process of its own.

It has to be deserialised for that, which takes a GPU: never run with TensorRT or on a GPU so far.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lat_export.targets.tensorrt_open import open_runtime

if TYPE_CHECKING:
    # As in tensorrt_build.
    import tensorrt


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        request: "module" (tensorrt or tensorrt_rtx), "engine" (path), "plugins" (library paths).
    Returns:
        "errors" (empty where the engine opened), "version", and what `engine_facts` tells.
    """
    trt = importlib.import_module(request["module"])
    opened = open_runtime(trt, request["plugins"])
    engine = opened.engine(Path(request["engine"]))
    if engine is None:
        return {"errors": opened.why, "version": trt.__version__}
    return {"errors": [], "version": trt.__version__, **engine_facts(trt, engine)}


def engine_facts(trt: ModuleType, engine: tensorrt.ICudaEngine) -> dict[str, Any]:
    """
    Returns:
        "bindings" (name, dtype, shape, "input" or "output"), "profiles" (by input, [min, opt, max]), "layers" (the
        inspector's own, name, type and element types), "memory" (bytes), "refittable".
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    return {
        "bindings": [
            {
                "name": name,
                "dtype": str(engine.get_tensor_dtype(name)).rpartition(".")[2],
                "shape": list(engine.get_tensor_shape(name)),
                "is": "input" if name in inputs else "output",
            }
            for name in names
        ],
        "profiles": [
            {name: [list(shape) for shape in engine.get_tensor_profile_shape(name, index)] for name in inputs}
            for index in range(engine.num_optimization_profiles)
        ],
        "layers": layers_of(trt, engine),
        "memory": {"Device Memory": engine.device_memory_size_v2},
        "refittable": engine.refittable,
    }


def layers_of(trt: ModuleType, engine: tensorrt.ICudaEngine) -> list[dict[str, Any]]:
    """The engine's own layers, after fusion: "name", "type", "precision", as its inspector tells them."""
    inspector = engine.create_engine_inspector()
    told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return [layer_facts(layer) for layer in told.get("Layers", [])]


def layer_facts(layer: Any) -> dict[str, Any]:
    """With the usual verbosity a layer is its name alone, with "detailed" an object."""
    if isinstance(layer, str):
        return {"name": layer, "type": "", "precision": ""}
    outputs = [str(output.get("Format/Datatype", "")) for output in layer.get("Outputs", [])]
    return {
        "name": str(layer.get("Name", "")),
        "type": str(layer.get("LayerType", "")),
        "precision": ", ".join(dict.fromkeys(filter(None, outputs))),
    }


if __name__ == "__main__":
    request_file = Path(sys.argv[1])
    asked = json.loads(request_file.read_text())
    Path(asked["answer"]).write_text(json.dumps(inspect(asked)))
