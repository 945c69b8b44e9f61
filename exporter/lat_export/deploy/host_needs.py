"""What a served model needs of the machine: measured by one run of its longest row, estimated where that cannot be."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lat_export
from lat_export.deploy.triton_warmup import Warmup, values
from lat_export.errors import first_line

if TYPE_CHECKING:
    from lat_export.deploy.triton import Tensors

LONGEST_S = 300
# Of an estimate. A reader of an engine or a model holds the file once more while it loads; the rest is a CUDA context
# and its libraries, or onnxruntime's and Python's own.
ESTIMATED_COPIES = 2
ESTIMATED_OWN = {"gpu": 3 << 30, "cpu": 1 << 30}
ESTIMATED_LOAD_S = 120.0
ESTIMATED_RUN_S = 1.0


@dataclass(frozen=True)
class HostNeeds:
    """Of one copy of a model.

    Attributes:
        load_s: seconds until it could run.
        run_s: seconds of a run of one row of `tokens`, the first one.
        loaded_bytes: resident after loading, libraries among it.
        row_bytes: what such a run adds at its peak.
        tokens: the length of that row, the longest that the model takes.
        not_measured: why all but `tokens` is an estimate; None of a measurement.
    """

    load_s: float
    run_s: float
    loaded_bytes: int
    row_bytes: int
    tokens: int
    not_measured: str | None = None

    def of(self, rows: int) -> int:
        """Bytes of a copy whose runs have so many of the longest rows: what a run needs grows with its rows."""
        return self.loaded_bytes + rows * self.row_bytes

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def host_needs(tensors: Tensors, place: Path, scratch: Path) -> HostNeeds:
    """
    Args:
        place: folder of the model's version, written.
        scratch: where inputs may be written.
    """
    tokens = _longest(tensors)
    model_bytes = sum(path.stat().st_size for path in place.iterdir() if path.is_file())
    if tensors.device == "gpu":
        return _estimate(tensors, model_bytes, tokens, "it runs on a GPU")
    import numpy as np

    inputs = scratch / "longest.npz"
    np.savez(inputs, **_row(tensors, tokens))
    job = {
        "model": str(place / tensors.model),
        "op_library": str(place / tensors.libraries[0]) if tensors.libraries else None,
        "inputs": str(inputs),
        "threads": tensors.threads or 0,
    }
    try:
        found = _run(job)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return _estimate(tensors, model_bytes, tokens, f"its run ended with {_reason(error)}")
    finally:
        inputs.unlink()
    above = max(0, found["peak_bytes"] - found["loaded_bytes"])
    return HostNeeds(found["load_s"], found["run_s"], found["loaded_bytes"], above, tokens)


def _longest(tensors: Tensors) -> int:
    signature = tensors.bundle.signature
    most = signature.max_tokens
    if tensors.of_engine:
        most = min(most, max(profile["sequence"].max for profile in tensors.bundle.plan.profiles))
    return max(signature.multiple_of, most // signature.multiple_of * signature.multiple_of)


def _row(tensors: Tensors, tokens: int) -> dict[str, Any]:
    signature = tensors.bundle.signature
    usual = tensors.warmups[0].sizes
    row = Warmup({**usual, "batch": 1, "sequence": tokens})
    return {spec.name: values(signature, spec, row.shape(spec), tensors.max_global) for spec in signature.inputs}


def _run(job: dict[str, Any]) -> dict[str, Any]:
    # The child imports the package that runs here, also from a checkout that is not installed.
    source_root = str(Path(lat_export.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (source_root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "lat_export.deploy.host_needs_child"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST_S,
        env={**os.environ, "PYTHONPATH": path},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {LONGEST_S} s"
    if isinstance(error, subprocess.CalledProcessError):
        last = (error.stderr or "").strip().splitlines()[-1:] or ["no word"]
        return f"exit code {error.returncode} ({last[0][:200]})"
    return first_line(error)


def _estimate(tensors: Tensors, model_bytes: int, tokens: int, why: str) -> HostNeeds:
    loaded = ESTIMATED_COPIES * model_bytes + ESTIMATED_OWN[tensors.device]
    return HostNeeds(ESTIMATED_LOAD_S, ESTIMATED_RUN_S, loaded, row_bytes(tensors, tokens), tokens, why)


def row_bytes(tensors: Tensors, tokens: int) -> int:
    """Inputs and outputs of one row."""
    import numpy as np

    signature, inputs = tensors.bundle.signature, _row(tensors, tokens)
    shapes = signature.output_shapes(inputs)
    outputs = [np.dtype(spec.dtype).itemsize * math.prod(map(int, shapes[spec.name])) for spec in signature.outputs]
    return sum(int(array.nbytes) for array in inputs.values()) + sum(outputs)
