"""A client of Triton, the same over HTTP and gRPC."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from deploy.triton_server import Server

from lat_export.text_inputs import Request

Arrays = dict[str, "np.ndarray[Any, Any]"]
PROTOCOLS = ("http", "grpc")
TRITON_TYPES = {"int64": "INT64", "int32": "INT32", "float32": "FP32", "object": "BYTES"}


@dataclass(frozen=True)
class Client:
    """One protocol of a server; it may be used by several threads where that protocol is gRPC."""

    module: ModuleType
    opened: Any

    def infer(self, model: str, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        given = [
            self.module.InferInput(name, array.shape, TRITON_TYPES[str(array.dtype)]) for name, array in inputs.items()
        ]
        for one, array in zip(given, inputs.values(), strict=True):
            one.set_data_from_numpy(array)
        outputs = self.opened.infer(model, given)
        described = outputs.get_response()
        names = (
            [out["name"] for out in described["outputs"]]
            if isinstance(described, dict)
            else [out.name for out in described.outputs]
        )
        return {name: outputs.as_numpy(name) for name in names}

    def answer(self, model: str, request: Request) -> Any:
        return json.loads(self.infer(f"{model}_text", text_tensors(request))["answer"][0])

    def version(self) -> str:
        """Of the server."""
        found = self.opened.get_server_metadata()
        return str(found["version"] if isinstance(found, dict) else found.version)

    def batches(self, model: str) -> Batches:
        of_grpc = {"as_json": True} if self.module.__name__.endswith("grpc") else {}
        (statistics,) = self.opened.get_inference_statistics(model, **of_grpc)["model_stats"]
        return Batches(
            rows=int(statistics.get("inference_count", 0)),
            runs=int(statistics.get("execution_count", 0)),
            of_rows={
                int(one["batch_size"]): int(one["compute_infer"]["count"]) for one in statistics.get("batch_stats", ())
            },
        )


@dataclass(frozen=True)
class Batches:
    """What the server counts since it loaded a model.

    Attributes:
        rows: that were computed.
        runs: of the model, each of however many rows.
        of_rows: runs by the rows that they had.
    """

    rows: int
    runs: int
    of_rows: dict[int, int]


def text_tensors(request: Request) -> Arrays:
    """A request as the model takes it that a deployment puts before its tensors."""
    fields = {"text": (request.text,), "choices": request.choices}
    fields |= {"question": (request.question,)} if request.question is not None else {}
    inputs = {name: np.array([v.encode() for v in value], np.object_) for name, value in fields.items() if value}
    inputs["top_k"] = np.array([request.top_k], np.int32)
    return inputs


def open_client(server: Server, protocol: str) -> Client:
    module = importlib.import_module(f"tritonclient.{protocol}")
    return Client(module, module.InferenceServerClient(server.http if protocol == "http" else server.grpc))
