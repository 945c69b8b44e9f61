"""trace: PyTorch model -> ONNX program with `lat` nodes, every batch, choices and sequence size dynamic."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export.errors import InternalError
from lat_export.ops import OPSET_VERSION
from lat_export.stages.load import Loaded
from lat_export.stages.signature import picked, wanted_groups

if TYPE_CHECKING:
    import onnx_ir
    import torch

# Sizes of the traced example: no two alike, none 1, none a multiple of a window: nothing is taken for a constant.
EXAMPLE_SIZES = {"batch": 3, "choices": 5, "sequence": 23}


@dataclass(frozen=True)
class Traced:
    """The exporter's program in memory.

    Attributes:
        program: as ONNX; its initializers are the model's own tensors.
        exported: as PyTorch; its values have the names of the ONNX program's.
    """

    program: onnx_ir.Model
    exported: torch.export.ExportedProgram


def trace(loaded: Loaded) -> Traced:
    """Trace the swapped model with torch.onnx (dynamo).

    Raises:
        InternalError: torch cannot trace the module, for example an attention that branches on data.
    """
    import torch

    signature = loaded.signature
    caller = _caller(loaded)
    # Whole multiples, and below the maximum: at it the positions would not be a part of their table.
    steps = min(EXAMPLE_SIZES["sequence"], signature.max_tokens // signature.multiple_of - 1)
    sizes = {**EXAMPLE_SIZES, "sequence": max(steps, 1) * signature.multiple_of}
    example = {
        spec.name: torch.zeros(
            [dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims], dtype=getattr(torch, spec.dtype)
        )
        for spec in signature.inputs
    }
    named = {dim: torch.export.Dim(str(dim)) for dim in signature.token_dims}
    axes = tuple({axis: named[dim] for axis, dim in enumerate(spec.dims) if dim in named} for spec in signature.inputs)
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                caller,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes={"tensors": axes},
                opset_version=OPSET_VERSION,
                input_names=list(example),
                output_names=[spec.name for spec in signature.outputs],
                verbose=False,
            )
        except Exception as error:  # torch.onnx and torch.export raise many kinds
            cause = _root_cause(error)
            raise InternalError(
                "torch cannot trace the model",
                got=f"{type(cause).__name__}: {str(cause)[:1500]}",
                hint="please report this with the checkpoint's config.json",
                where={"stage": "trace"},
            ) from error
    assert program is not None  # a dynamo export always gives a program
    assert program.exported_program is not None
    return Traced(program.model, program.exported_program)


def _caller(loaded: Loaded) -> torch.nn.Module:
    import torch

    inputs = [spec.name for spec in loaded.signature.inputs]
    outputs = [spec.name for spec in loaded.signature.outputs]
    groups = wanted_groups(loaded.signature)

    class Caller(torch.nn.Module):
        """The signature's inputs in, its outputs out, both in order."""

        def __init__(self) -> None:
            super().__init__()
            self.model = loaded.checkpoint.family.swapped(loaded.model, loaded.checkpoint.options)

        def forward(self, *tensors: torch.Tensor) -> tuple[Any, ...]:
            given = self.model(**dict(zip(inputs, tensors, strict=True)), **groups)
            return tuple(picked(given, name) for name in outputs)

    return Caller().eval()


def _root_cause(error: BaseException) -> BaseException:
    """What the model itself raised, under the exporter's own advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _quiet() -> Any:
    """torch.onnx tells of missing torchvision and of its own deprecations; neither is the user's concern."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
