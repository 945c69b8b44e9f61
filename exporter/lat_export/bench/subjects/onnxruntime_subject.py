"""What all subjects in onnxruntime share: session options, runs, and its profiler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.op_times import OpTime, op_times_of
from lat_export.bench.subjects.contract import Arrays, Opened
from lat_export.errors import InputError
from lat_export.targets.onnxruntime_session import session

if TYPE_CHECKING:
    import onnxruntime


class OpenedSession(Opened):
    """One model in onnxruntime on the CPU, with onnxruntime's own defaults beside the number of threads."""

    def __init__(self, model: Path, inputs: Arrays, threads: int, native_ops: Path | None = None) -> None:
        """
        Raises:
            InputError: the model does not load, or takes an input that is not among `inputs`.
        """
        self._model, self._threads, self._native_ops = model, threads, native_ops
        self._session: onnxruntime.InferenceSession | None = self._open(None)
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._inputs = _as_taken(self._session, inputs)

    def run(self) -> Arrays:
        assert self._session is not None
        return dict(zip(self._outputs, self._session.run(self._outputs, self._inputs), strict=True))

    def op_times(self, folder: Path) -> list[OpTime]:
        self._session = None  # two in memory would be one too many for a large model
        profiled = self._open(folder / "profile")
        for _ in range(2):  # of the first one, allocations are a part
            profiled.run(self._outputs, self._inputs)
        return op_times_of(json.loads(Path(profiled.end_profiling()).read_text()))

    def _open(self, profile: Path | None) -> onnxruntime.InferenceSession:
        def configure(options: onnxruntime.SessionOptions) -> None:
            options.intra_op_num_threads = self._threads
            # Threads spin between the ops of a run as always, but not on when it is over: the next subject's turn.
            options.add_session_config_entry("session.force_spinning_stop", "1")
            if profile is not None:
                options.enable_profiling = True
                options.profile_file_prefix = str(profile)

        return session(self._model, native_ops=self._native_ops, configure=configure)


def _as_taken(opened: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
    """The inputs that a session names, in its dtypes: others' exports take int32, or fewer masks."""
    taken = {}
    for value in opened.get_inputs():
        if value.name not in inputs:
            raise InputError("the model takes another input", got=value.name, expected=", ".join(inputs))
        taken[value.name] = inputs[value.name].astype(_dtype(value.type))
    return taken


def _dtype(described: str) -> Any:
    """As "tensor(int64)"."""
    name = described.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
