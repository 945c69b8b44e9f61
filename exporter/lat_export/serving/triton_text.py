"""Triton's python backend: text to the answer of the task, as JSON. The tensors go to another model of the server.

`serving.json` beside it says which, and what it takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from lat_export.errors import InputError, LatExportError
from lat_export.serving.triton_reply import failure, refusal
from lat_export.text_front import TextFront
from lat_export.text_inputs import Request, Terms, check_request
from lat_export.tokenizer_file import read_tokenizer
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

HERE = Path(__file__).resolve().parent
TERMS = Terms("question", "choices", "text is the document, question what is asked of it", "a string for every choice")


class ModelFailedError(Exception):
    """What the model behind answered in place of tensors."""


class TritonPythonModel:
    """The name that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        facts = json.loads((HERE / "serving.json").read_text())
        self.signature = Signature.from_json(facts["signature"])
        self.model, self.max_global = facts["model"], facts["max_global"]
        tokenizer = read_tokenizer(HERE / "tokenizer")
        assert tokenizer is not None, "the deployment lacks its tokenizer.json"
        self.front = TextFront(self.signature, tokenizer, json.loads((HERE / "config.json").read_text()))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request, in their order."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        import numpy as np

        try:
            answer = self.front.answer(self._read(request), self._run)
            text = json.dumps(answer, allow_nan=False).encode()
        except LatExportError as error:
            return refusal(error)
        except Exception as error:  # what leaves `execute` fails every request that came with this one
            return failure(error)
        tensor = pb_utils.Tensor("answer", np.array([text], dtype=np.object_))
        return pb_utils.InferenceResponse(output_tensors=[tensor])

    def _read(self, request: Any) -> Request:
        (text,) = strings(request, "text")
        question = strings(request, "question")
        top_k = pb_utils.get_input_tensor_by_name(request, "top_k")
        best = Request.top_k if top_k is None else int(top_k.as_numpy().item())
        if best < 1:
            raise InputError("top_k is a number of answers", got=best, expected="1 or more")
        read = Request(text, question[0] if question else None, strings(request, "choices"), best)
        check_request(read, self.signature.task, TERMS)
        return read

    def _run(self, inputs: Arrays) -> Arrays:
        """The model of the server; it is refused here what that would compute wrongly or die on."""
        self.signature.check_inputs(inputs, max_global=self.max_global)
        names = [spec.name for spec in self.signature.outputs]
        tensors = [pb_utils.Tensor(name, array) for name, array in inputs.items()]
        response = pb_utils.InferenceRequest(
            model_name=self.model, requested_output_names=names, inputs=tensors, preferred_memory=on_the_host()
        ).exec()
        if response.has_error():
            raise ModelFailedError(response.error().message())
        return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in names}


def on_the_host() -> Any:
    """Where the answers are wanted: tensors on a device have no `as_numpy`."""
    return pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)


def strings(request: Any, name: str) -> tuple[str, ...]:
    """Of an input, flattened; none where it was not given.

    Raises:
        InputError: bytes that are no UTF-8.
    """
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return ()
    try:
        return tuple(bytes(value).decode() for value in tensor.as_numpy().ravel())
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no text in UTF-8", got=str(error)) from error
