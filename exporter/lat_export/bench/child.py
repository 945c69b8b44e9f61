"""The parent's side of a subject's process: start it, ask it, wait until it is quiet, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lat_export
from lat_export.bench.settling import settle
from lat_export.errors import LatExportError

LAST_LINES = 3


@dataclass(frozen=True)
class Job:
    """
    Attributes:
        name: of the subject in results.
        kind: of `lat_export.bench.subjects.SUBJECTS`.
        arguments: what the kind's `arguments` gave.
        inputs: .npz file of the inputs of every run.
    """

    name: str
    kind: str
    arguments: dict[str, Any]
    inputs: Path
    threads: int


class ChildError(LatExportError):
    """A subject failed in its process: a row of the result says so."""


class Child:
    """One subject's process. It starts at once; `ask` tells how that went."""

    def __init__(self, job: Job, scratch: Path) -> None:
        """
        Args:
            scratch: a folder of its own.
        """
        self.name = job.name
        self._job = {**vars(job), "inputs": str(job.inputs), "scratch": str(scratch)}
        self._log = scratch / "log"
        # The child imports the package that runs here, also from a checkout that is not installed.
        source_root = str(Path(lat_export.__file__).resolve().parent.parent)
        settings = {
            "PYTHONPATH": os.pathsep.join(filter(None, (source_root, os.environ.get("PYTHONPATH")))),
            "OMP_NUM_THREADS": str(job.threads),
            # What torch.compile has compiled for an earlier child is not found again: its time is stated.
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lat_export.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **settings},
                start_new_session=True,  # so that what it starts, as compilers, ends with it
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def opened(self) -> dict[str, Any]:
        """Hand it its job, and wait until it is loaded.

        Raises:
            ChildError: it could not be.
        """
        self._send(self._job)
        return self._receive()

    def ask(self, request: str) -> dict[str, Any]:
        """
        Args:
            request: a method of `lat_export.bench.worker.Worker`.
        Raises:
            ChildError: it could not do that, or died of it.
        """
        self._send(request)
        return self._receive()

    def settle(self) -> None:
        """Wait until none of its threads spins: only one subject is to compute at a time."""
        settle(self.pid)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer

    def _died(self) -> ChildError:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return ChildError(f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else ""))
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return ChildError(f"ended with exit code {code}: " + " / ".join(lines[-LAST_LINES:]))
