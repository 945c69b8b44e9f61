"""The child's side: one subject in a process of its own, driven by lines of JSON.

    python -m lat_export.bench.worker < requests > answers

The first line is the job, every other one names a request; each is answered by one line. Whatever libraries print goes
to stderr. It ends with its input, and so with its parent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lat_export.bench.subjects import SUBJECTS, Opened
from lat_export.errors import LatExportError, first_line
from lat_export.process_memory import read_memory, release_unused, reset_peak

# Numbers of the first output that tell whether two subjects compute the same.
SAMPLE_SIZE = 4096


class Worker:
    """One method a request."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._scratch = Path(job["scratch"])
        started = time.perf_counter()
        with np.load(job["inputs"]) as stored:
            inputs = {name: stored[name] for name in stored.files}
        self._opened: Opened = SUBJECTS[job["kind"]].open(job["arguments"], inputs, job["threads"])
        self.load_s = time.perf_counter() - started

    def opened(self) -> dict[str, Any]:
        """After loading: what is resident now are the weights, the libraries and the interpreter."""
        release_unused()
        return {
            "load_s": self.load_s,
            "operations": self._opened.operations,
            "note": self._opened.note,
            **self.memory(),
        }

    def warm_up(self) -> dict[str, Any]:
        started = time.perf_counter()
        outputs = self._opened.run()
        return {"seconds": time.perf_counter() - started, "sample": _sample(outputs)}

    def run(self) -> dict[str, Any]:
        return asdict(self._opened.timed())

    def reset_peak(self) -> dict[str, Any]:
        return {"reset": reset_peak()}

    def memory(self) -> dict[str, Any]:
        memory = read_memory()
        return {"memory": None if memory is None else asdict(memory), "device_bytes": self._opened.device_bytes()}

    def op_times(self) -> dict[str, Any]:
        times = self._opened.op_times(self._scratch)
        return {"op_times": None if times is None else [asdict(time) for time in times]}


def _sample(outputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any] | None:
    """Shape of the first output, and numbers spread evenly over it."""
    if not outputs:
        return None
    first = next(iter(outputs.values()))
    step = max(1, first.size // SAMPLE_SIZE)
    return {"shape": list(first.shape), "values": first.reshape(-1)[::step].astype(np.float64).tolist()}


def _answer(compute: Callable[[], dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return compute()
    except LatExportError as error:
        text = " ".join(part for part in (error.what, error.got and f"({error.got})") if part)
    except Exception as error:  # of torch, transformers, onnxruntime: a row of the result, not the end of it
        text = first_line(error)
    for value in arguments.values():
        if isinstance(value, str) and os.sep in value:
            text = text.replace(value, Path(value).name)  # results are read on other machines
    return {"error": text}


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    workers: list[Worker] = []

    def start() -> dict[str, Any]:
        workers.append(Worker(job))
        return workers[0].opened()

    tell(_answer(start, job["arguments"]))
    for line in sys.stdin:
        tell(_answer(getattr(workers[0], json.loads(line)), job["arguments"]))


if __name__ == "__main__":
    main()
