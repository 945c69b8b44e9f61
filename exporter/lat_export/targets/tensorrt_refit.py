"""Puts weights into an engine: `python -m lat_export.targets.tensorrt_refit REQUEST.json`, in a process of its own.

It takes a GPU: never run with TensorRT or on a GPU so far. Weights come from an ONNX file by the parser's own refitter,
which knows what it called them when the engine was built; Polygraphy has nothing for that.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.targets.tensorrt_open import NO_REASON, open_runtime

if TYPE_CHECKING:
    # As in tensorrt_build.
    import tensorrt


def refit(request: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        request: "module" (tensorrt or tensorrt_rtx), "engine", "model" (ONNX, of the same graph) and "out" (paths),
            "plugins" (library paths).
    Returns:
        "errors" (empty where "out" was written), "version", "bytes".
    """
    trt = importlib.import_module(request["module"])
    opened = open_runtime(trt, request["plugins"])

    def refused(what: str) -> dict[str, Any]:
        return {"errors": opened.log.errors or [what], "version": trt.__version__}

    engine = opened.engine(Path(request["engine"]))
    if engine is None:
        return refused(NO_REASON)
    refitter: tensorrt.Refitter = trt.Refitter(engine, opened.log)
    parser: tensorrt.OnnxParserRefitter = trt.OnnxParserRefitter(refitter, opened.log)
    if not parser.refit_from_file(request["model"]):
        return refused("the ONNX parser did not take the weights")
    if missing := refitter.get_missing_weights():
        return refused(f"{len(missing)} weights of the engine are not in the model, {missing[0]} among them")
    if not refitter.refit_cuda_engine():
        return refused("the engine did not take the weights")
    blob = _with_weights(trt, engine)
    out = Path(request["out"])
    half = out.with_name(f".{out.name}.{os.getpid()}")
    half.write_bytes(blob)
    half.replace(out)
    return {"errors": [], "version": trt.__version__, "bytes": out.stat().st_size}


def _with_weights(trt: Any, engine: tensorrt.ICudaEngine) -> tensorrt.IHostMemory:
    """The whole engine: an engine that was stripped would be written without weights again."""
    config = engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    if hasattr(trt.SerializationFlag, "INCLUDE_REFIT"):  # TensorRT 10.8 has it not
        config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    return engine.serialize_with_config(config)


if __name__ == "__main__":
    request_file = Path(sys.argv[1])
    asked = json.loads(request_file.read_text())
    Path(asked["answer"]).write_text(json.dumps(refit(asked)))
