"""Runs a program of this package in a process of its own: the library may abort, and two of them do not share one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lat_export
from lat_export.errors import InputError, LatExportError
from lat_export.targets.trt_errors import explained


def answer_of(program: str, title: str, request: dict[str, Any], stage: str, doing: str) -> dict[str, Any]:
    """The answer of `lat_export.targets.<program>`, without errors.

    Args:
        request: JSON; "answer" is the file that the answer is written to.
        title: of the library.
        doing: for errors, as "built the engine".
    Raises:
        LatExportError: the library refused, or the process ended otherwise.
    """
    answer_file = Path(request["answer"])
    request_file = answer_file.with_suffix(".request.json")
    request_file.write_text(json.dumps(request))
    # The child imports the package that runs here, also from a checkout that is not installed.
    source_root = str(Path(lat_export.__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, (source_root, os.environ.get("PYTHONPATH"))))
    child = subprocess.run(
        [sys.executable, "-m", f"lat_export.targets.{program}", str(request_file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": search_path},
    )
    where = {"stage": stage}
    if child.returncode < 0:
        raise InputError(
            f"{title} crashed while it {doing}",
            got=signal.Signals(-child.returncode).name,
            hint="this is a fault of the library on this graph; --to onnx or --to ort works without it",
            where=where,
        )
    if child.returncode > 0:
        raise LatExportError(f"{title} failed while it {doing}", got=child.stderr.strip()[-2000:], where=where)
    answer: dict[str, Any] = json.loads(answer_file.read_text())
    if answer["errors"]:
        raise explained(title, answer["errors"], stage)
    return answer
