"""`pytorch-gpu`: transformers' own model on the GPU, in the precision of the bundle. Never run on a GPU so far."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from lat_export.bench.subjects.contract import Arrays, Opened
from lat_export.bench.subjects.engine import engine_target
from lat_export.bench.subjects.on_stream import OpenedOnStream
from lat_export.bench.subjects.pytorch import PyTorchSubject, load_model
from lat_export.environment import gpu_count
from lat_export.errors import LatExportError, MissingError
from lat_export.native.cuda_driver import CudaDriver
from lat_export.types import Signature

if TYPE_CHECKING:
    import torch

    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class OpenedModelOnGpu(OpenedOnStream):
    """A PyTorch model on a device, with the inputs and outputs of the exported one."""

    def __init__(
        self, model: torch.nn.Module, signature: Signature, inputs: Arrays, note: str | None, device: str = "cuda"
    ) -> None:
        import torch

        from lat_export.stages.signature import wanted_groups

        self.note = note
        self.driver = CudaDriver()
        self._model, self._signature, self._device = model, signature, device
        on_gpu = device != "cpu"  # where tests put it
        cuda: Any = torch.cuda  # its streams are not typed
        self._stream = cuda.Stream() if on_gpu else None
        self.stream: int = self._stream.cuda_stream if self._stream is not None else self.driver.stream()
        given = {name: torch.from_numpy(array) for name, array in inputs.items()}
        self._given = {name: tensor.pin_memory() if on_gpu else tensor for name, tensor in given.items()}
        self._inputs = {name: tensor.to(device) for name, tensor in given.items()}
        self._groups = {name: True for name, wanted in wanted_groups(signature).items() if wanted}
        self._found: dict[str, torch.Tensor] = {}
        self._brought: dict[str, torch.Tensor] = {}

    def copy_in(self) -> None:
        with self._on_stream():
            for name, tensor in self._given.items():
                self._inputs[name].copy_(tensor, non_blocking=True)

    def execute(self) -> None:
        import torch

        from lat_export.stages.signature import picked

        with self._on_stream(), torch.inference_mode():
            outputs = self._model(**self._inputs, **self._groups)
            self._found = {spec.name: picked(outputs, spec.name) for spec in self._signature.outputs}

    def copy_out(self) -> None:
        with self._on_stream():
            for name, tensor in self._found.items():
                if name not in self._brought:
                    self._brought[name] = self._place(tensor)
                self._brought[name].copy_(tensor, non_blocking=True)

    def outputs(self) -> Arrays:
        return {name: tensor.float().numpy() for name, tensor in self._brought.items()}

    def device_bytes(self) -> dict[str, int] | None:
        import torch

        weights = sum(tensor.nbytes for tensor in (*self._model.parameters(), *self._model.buffers()))
        return {"weights": weights, "most allocated": torch.cuda.max_memory_allocated()}

    def _on_stream(self) -> AbstractContextManager[Any]:
        import torch

        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._device != "cpu")


class PyTorchGpuSubject(PyTorchSubject):
    name = "pytorch-gpu"
    title = "transformers in PyTorch on the GPU, eager"
    on_gpu = True
    belongs_to = "bundles with an engine (--to trt, --to trt-rtx)"

    def names(self, given: Given) -> list[str]:
        return [self.name] if engine_target(given) else []

    def lack(self, given: Given) -> LatExportError | None:
        if gpu_count() == 0:
            return MissingError(f"{self.name} needs a GPU", got="no NVIDIA GPU or driver on this machine")
        import torch

        if not torch.cuda.is_available():
            return MissingError(
                f"{self.name} needs a PyTorch with CUDA",
                got=f"torch {torch.__version__}",
                hint="pip install torch from the index of builds for CUDA",
            )
        return super().lack(given)

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        return {**super().arguments(given, name, point), "precision": given.bundle.manifest["precision"]}

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        import torch

        # As an engine in fp32, which has no TF32 either.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        model, note = load_model(arguments, threads)
        model = model.to("cuda", getattr(torch, DTYPES[arguments["precision"]]))
        torch.cuda.reset_peak_memory_stats()
        return OpenedModelOnGpu(self.compiled(model), Signature.from_json(arguments["signature"]), inputs, note)

    def compiled(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model as it is."""
        return model


SUBJECT = PyTorchGpuSubject()
