"""What Triton's python backend gives a model, as far as ours asks for it: played, for machines without a server.

Names and meanings are those of triton_python_backend_utils and of the stub's module of server 2.51.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TRITONSERVER_MEMORY_CPU = 0
# By name: what a request to another model of the server runs.
MODELS: dict[str, Any] = {}


class TritonError:
    INVALID_ARG = 3
    INTERNAL = 1

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class PreferredMemory:
    def __init__(self, memory: int, device: int) -> None:
        assert memory == TRITONSERVER_MEMORY_CPU


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None) -> None:
        assert (output_tensors is None) != (error is None)
        self._tensors, self._error = output_tensors or [], error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class InferenceRequest:
    def __init__(
        self,
        inputs: list[Tensor],
        model_name: str = "",
        requested_output_names: list[str] | None = None,
        preferred_memory: PreferredMemory | None = None,
    ) -> None:
        self._inputs, self._model, self._wanted = inputs, model_name, requested_output_names

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def exec(self) -> InferenceResponse:
        (response,) = MODELS[self._model].execute([self])
        assert response.has_error() or {one.name() for one in response.output_tensors()} >= set(self._wanted or ())
        return response


def _named(tensors: list[Tensor], name: str) -> Tensor | None:
    return next((one for one in tensors if one.name() == name), None)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return _named(request.inputs(), name)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    return _named(response.output_tensors(), name)
