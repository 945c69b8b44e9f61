"""`pytorch-compile`: the same model through `torch.compile` with its defaults; compiled for each size anew."""

from __future__ import annotations

from typing import Any

from lat_export.bench.subjects.contract import Arrays, Opened
from lat_export.bench.subjects.pytorch import OpenedModel, PyTorchSubject, load_model
from lat_export.types import Signature


class PyTorchCompileSubject(PyTorchSubject):
    name = "pytorch-compile"
    title = "transformers in PyTorch, torch.compile"
    only_when_named = "compiling takes a minute or two for every size"

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        import torch

        model, note = load_model(arguments, threads)
        compiled: Any = torch.compile(model)
        return OpenedModel(compiled, Signature.from_json(arguments["signature"]), inputs, note)


SUBJECT = PyTorchCompileSubject()
