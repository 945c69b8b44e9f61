"""Triton's python backend: tensors to tensors in onnxruntime. `serving.json` beside it says what it serves.

A request that the model would compute wrongly or die on is refused; the others of its batch are served.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from lat_export.errors import LatExportError
from lat_export.onnxruntime_options import default_options
from lat_export.serving.triton_reply import failure, refusal
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

HERE = Path(__file__).resolve().parent


class TritonPythonModel:
    """The name that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        import onnxruntime

        facts = json.loads((HERE / "serving.json").read_text())
        self.signature = Signature.from_json(facts["signature"])
        self.names = [spec.name for spec in self.signature.outputs]
        options = default_options()
        options.intra_op_num_threads = facts["threads"] or 0  # 0: onnxruntime's own choice
        if facts["op_library"] is not None:
            options.register_custom_ops_library(str(HERE / facts["op_library"]))
        self.session = onnxruntime.InferenceSession(str(HERE / facts["model"]), options, providers=facts["providers"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request, in their order."""
        responses: list[Any] = [None] * len(requests)
        sound: list[tuple[int, Arrays]] = []
        for place, request in enumerate(requests):
            try:
                sound.append((place, self._inputs_of(request)))
            except LatExportError as error:
                responses[place] = refusal(error)
            except Exception as error:  # what leaves `execute` fails every request that came with this one
                responses[place] = failure(error)
        for group in of_one_shape(sound):
            for (place, _), response in zip(group, self._responses([inputs for _, inputs in group]), strict=True):
                responses[place] = response
        return responses

    def _inputs_of(self, request: Any) -> Arrays:
        given = {spec.name: pb_utils.get_input_tensor_by_name(request, spec.name) for spec in self.signature.inputs}
        inputs = {name: tensor.as_numpy() for name, tensor in given.items() if tensor is not None}
        self.signature.check_inputs(inputs)
        return inputs

    def _responses(self, several: list[Arrays]) -> Iterator[Any]:
        """Requests of one shape in one run."""
        try:
            outputs = self.session.run(self.names, joined(several))
        except Exception as error:  # onnxruntime's errors share no base class of their own
            yield from (failure(error) for _ in several)
            return
        first = 0
        for inputs in several:
            rows = slice(first, first + len(inputs["attention_mask"]))
            # Of a single request an output is whole, also one whose first axis is not the batch.
            parts = outputs if len(several) == 1 else [output[rows] for output in outputs]
            tensors = [pb_utils.Tensor(name, part) for name, part in zip(self.names, parts, strict=True)]
            yield pb_utils.InferenceResponse(output_tensors=tensors)
            first = rows.stop


def of_one_shape(requests: Iterable[tuple[int, Arrays]]) -> list[list[tuple[int, Arrays]]]:
    """Requests that may share a batch: Triton puts only such together, unless it is told otherwise."""
    groups: dict[tuple[Any, ...], list[tuple[int, Arrays]]] = {}
    for place, inputs in requests:
        groups.setdefault(tuple(array.shape[1:] for array in inputs.values()), []).append((place, inputs))
    return list(groups.values())


def joined(several: list[Arrays]) -> Arrays:
    import numpy as np

    return several[0] if len(several) == 1 else {n: np.concatenate([one[n] for one in several]) for n in several[0]}
