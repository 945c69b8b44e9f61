"""A small kit made by hand, and lat_run without engines: for tests of what reads and compares files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lat_export import native
from lat_export.stages.kit import SCHEMA

LAT_RUN = Path(__file__).resolve().parent.parent / "kit" / "lat_run"
Arrays = dict[str, np.ndarray[Any, Any]]


def build_lat_run(folder: Path, *options: str) -> Path:
    """lat_run, compiled in `folder`; skips where there is no compiler."""
    lacking = [tool for tool in native.TOOLS if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    configure = ["cmake", "-S", str(LAT_RUN), "-B", str(folder), "-G", "Ninja", "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON"]
    for command in ([*configure, *options], ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "lat_run"


def bar(shape: tuple[int, ...], **changed: Any) -> dict[str, Any]:
    """By what an output is judged, as kit.json has it."""
    usual = {
        "relative_l2": 1e-5,
        "least_norm": 0.0,
        "dtypes": ["float32"],
        "shape": list(shape),
        "rows_axis": None,
        "first_empty_column": None,
        "remark": "",
    }
    return {**usual, **changed}


def write_kit(folder: Path, reference: np.ndarray[Any, Any], **changed: Any) -> Path:
    """A kit of one case, with one input and one output `logits`.

    Args:
        changed: of the output's bar; "rows" are the positions that the golden keeps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = changed.pop("rows", None)
    shape = changed.pop("shape", reference.shape)
    tensors = {"000.inputs.input_ids": np.arange(4)[None], "000.outputs.logits": np.ascontiguousarray(reference)}
    if rows is not None:
        tensors["000.rows"] = np.asarray(rows, dtype=np.int64)
    save_file(tensors, folder / "golden.safetensors")
    case = {"name": "B=1 N=4", "tensors": "000", "outputs": {"logits": bar(shape, **changed)}}
    facts = {"schema": SCHEMA, "inputs": ["input_ids"], "cases": [case], "left_out": 0}
    (folder / "kit.json").write_text(json.dumps(facts))
    return folder


def write_outputs(path: Path, outputs: Arrays) -> Path:
    """Outputs as `lat_run --outputs` takes them, by their whole names, as "000.outputs.logits"."""
    save_file({name: np.ascontiguousarray(array) for name, array in outputs.items()}, path)
    return path


def lat_run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
