"""Runs served models in a process that has neither lat-export nor PyTorch, with a backend that is played.

It reads a JSON object: "models" (names and the folder of each version), "requests": a list of lists of
{"model", "inputs": {name: {"dtype", "values"}}}; those of one list are executed together. It prints "answers",
such lists of {"outputs": {name: values}} or {"error", "code"}, and "runs" of onnxruntime for each list.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

for forbidden in ("lat_export", "torch", "transformers", "onnx", "onnx_ir"):
    sys.modules[forbidden] = None  # type: ignore[assignment]
sys.path.insert(0, str(Path(__file__).with_name("played")))

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402


def loaded(name: str, folder: str) -> ModuleType:
    """A model, with the packages beside it as its own: a server has a process for each."""
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"model_{name}", Path(folder) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(folder)
    for own in [own for own in sys.modules if own.startswith("lat_serving")]:
        del sys.modules[own]
    return module


def request(inputs: dict[str, dict[str, Any]]) -> pb_utils.InferenceRequest:
    def array(given: dict[str, Any]) -> np.ndarray:
        if given["dtype"] == "bytes":
            return np.array([bytes.fromhex(value) for value in given["values"]], np.object_)
        return np.array(given["values"], given["dtype"])

    return pb_utils.InferenceRequest([pb_utils.Tensor(name, array(given)) for name, given in inputs.items()])


def plain(response: pb_utils.InferenceResponse) -> dict[str, Any]:
    error = response.error()
    if error is not None:
        return {"error": error.message(), "code": error.code()}
    arrays = {one.name(): one.as_numpy() for one in response.output_tensors()}
    return {
        "outputs": {
            name: [value.decode() for value in array] if array.dtype == np.object_ else array.tolist()
            for name, array in arrays.items()
        }
    }


class Counted:
    """A session of onnxruntime that counts its runs."""

    runs = 0

    def __init__(self, session: Any) -> None:
        self.session = session

    def run(self, *arguments: Any) -> Any:
        Counted.runs += 1
        return self.session.run(*arguments)


def main() -> None:
    asked = json.load(sys.stdin)
    for name, folder in asked["models"].items():
        model = pb_utils.MODELS[name] = loaded(name, folder).TritonPythonModel()
        model.initialize({})
        if hasattr(model, "session"):
            model.session = Counted(model.session)
    answers, runs = [], []
    for group in asked["requests"]:
        before = Counted.runs
        model = pb_utils.MODELS[group[0]["model"]]
        answers.append([plain(one) for one in model.execute([request(each["inputs"]) for each in group])])
        runs.append(Counted.runs - before)
    json.dump({"answers": answers, "runs": runs}, sys.stdout)


main()
