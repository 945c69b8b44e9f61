"""`pytorch`: transformers' own model as its users run it: `from_pretrained`, eval, inference mode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.subjects.contract import Arrays, Opened, SubjectKind
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.types import ModelSpec, Options, Signature

if TYPE_CHECKING:
    import torch

    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point


class OpenedModel(Opened):
    """A PyTorch model with the inputs and outputs of the exported one."""

    def __init__(self, model: torch.nn.Module, signature: Signature, inputs: Arrays, note: str | None) -> None:
        import torch

        from lat_export.stages.signature import wanted_groups

        self.note = note
        self._model, self._signature = model, signature
        self._inputs = {name: torch.from_numpy(array) for name, array in inputs.items()}
        self._groups = {name: True for name, wanted in wanted_groups(signature).items() if wanted}

    def run(self) -> Arrays:
        import torch

        from lat_export.stages.signature import picked

        with torch.inference_mode():
            outputs = self._model(**self._inputs, **self._groups)
        return {spec.name: picked(outputs, spec.name).numpy() for spec in self._signature.outputs}


class PyTorchSubject(SubjectKind):
    name = "pytorch"
    title = "transformers in PyTorch, eager"
    is_pytorch = True

    def lack(self, given: Given) -> LatExportError | None:
        if given.checkpoint is not None:
            return None
        return MissingError(
            f"{self.name} needs the checkpoint that the bundle was made from",
            got=f"none is known for {given.bundle.folder}",
            hint="name it with --checkpoint",
        )

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        manifest = given.bundle.manifest
        return {
            "checkpoint": str(given.checkpoint),
            "signature": manifest["signature"],
            "options": manifest["options"],
            "allow_pickle": given.allow_pickle,
            "tokens": point.tokens,
        }

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        model, note = load_model(arguments, threads)
        return OpenedModel(model, Signature.from_json(arguments["signature"]), inputs, note)


def load_model(arguments: dict[str, Any], threads: int) -> tuple[torch.nn.Module, str | None]:
    """The model in eval mode, and what its figures need said.

    Raises:
        InputError: transformers cannot run it here, or its weights cannot be read.
    """
    import torch

    from lat_export.families import family_of
    from lat_export.stages.load import load

    torch.set_num_threads(threads)
    signature = Signature.from_json(arguments["signature"])
    spec = ModelSpec(
        arguments["checkpoint"],
        "onnx",
        Path(),
        task=signature.task,
        allow_pickle=arguments["allow_pickle"],
    )
    model = load(spec).model
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.sum()  # weights that are mapped from the file are read now, not in the first run
    family = family_of(signature.family)
    notes = [family.fitted(model, arguments["tokens"])]
    why = family.why_not_transformers(model.config, Options())
    if why is not None:
        raise InputError("transformers does not run this checkpoint", got=why)
    why = family.why_not_transformers(model.config, Options(**arguments["options"]))
    notes.append(None if why is None else f"what transformers computes is not what was exported: {why}")
    return model, "; ".join(note for note in notes if note) or None


SUBJECT = PyTorchSubject()
