"""A model is traced once in a run of the tests, whichever of them exports it: tests/conftest.py loads it.

torch's export takes most of the time of an export of a small checkpoint, and gives the same program for the same model.
What follows it (graph, record, lower, build, validate) runs each time, and so do the checks against PyTorch, which are
of the model that was loaded for this export. Commands that run in processes of their own trace for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from whole_run import folder_of_the_run

from lat_export import pipeline, refitting
from lat_export.dry_run import start
from lat_export.stages import trace as stage
from lat_export.stages.load import Loaded
from lat_export.stages.trace import Traced, trace

# They write the program to a file; a search for a divergence computes PyTorch's program, and finds the stage in its own
# module.
WRITERS = (pipeline, refitting, start)


class Kept:
    """Programs by what they were traced from: as ONNX in a folder of all workers, as PyTorch in this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exported: dict[str, torch.export.ExportedProgram | None] = {}

    def whole(self, loaded: Loaded) -> Traced:
        key = digest(loaded)
        if key not in self._exported:
            traced = trace(loaded)
            self._exported[key] = traced.exported
            self._write(traced.program, self._folder / key)
        return self._read(key)

    def program(self, loaded: Loaded) -> Traced:
        key = digest(loaded)
        return self._read(key) if (self._folder / key).is_file() else self.whole(loaded)

    def _write(self, program: ir.Model, file: Path) -> None:
        part = file.with_name(f"{file.name}.{os.getpid()}")
        part.write_bytes(ir.to_proto(program).SerializeToString())
        part.rename(file)

    def _read(self, key: str) -> Traced:
        """A copy with nothing in common: the stages after this one change the ONNX program in its place."""
        program = ir.from_proto(onnx.load(self._folder / key))
        return Traced(program, self._exported.get(key))  # type: ignore[arg-type]


def digest(loaded: Loaded) -> str:
    """Of all that the stage looks at: every tensor of the model, its config, how it is called, and the options."""
    model, checkpoint = loaded.model, loaded.checkpoint
    whole = sha256(repr((type(model), checkpoint.family.model_type, checkpoint.options, loaded.signature)).encode())
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    whole.update(repr(sorted(config.items())).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()


@contextmanager
def traced_by(program: Callable[[Loaded], Traced], whole: Callable[[Loaded], Traced]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in WRITERS:
            patch.setattr(module, "trace", program)
        patch.setattr(stage, "trace", whole)
        yield


@pytest.fixture(scope="session", autouse=True)
def _traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    kept = Kept(folder_of_the_run(tmp_path_factory, "traced"))
    with traced_by(kept.program, kept.whole):
        yield


@pytest.fixture
def traced_anew() -> Iterator[None]:
    """For a test of the trace itself."""
    with traced_by(trace, trace):
        yield
