"""`pytorch-gpu-compile`: the same model through `torch.compile` with its defaults; compiled for each size anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lat_export.bench.subjects.pytorch_gpu import PyTorchGpuSubject

if TYPE_CHECKING:
    import torch


class PyTorchGpuCompileSubject(PyTorchGpuSubject):
    name = "pytorch-gpu-compile"
    title = "transformers in PyTorch on the GPU, torch.compile"
    only_when_named = "compiling takes a minute or two for every size"

    def compiled(self, model: torch.nn.Module) -> torch.nn.Module:
        import torch

        made: Any = torch.compile(model)
        compiled: torch.nn.Module = made
        return compiled


SUBJECT = PyTorchGpuCompileSubject()
