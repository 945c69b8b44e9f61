"""`onnx`: the portable model in stock onnxruntime, without code of ours: `lat` nodes run as bodies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.subjects.contract import Arrays, Opened, SubjectKind
from lat_export.bench.subjects.onnxruntime_subject import OpenedSession
from lat_export.targets import PORTABLE_MODEL

if TYPE_CHECKING:
    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point


class OnnxSubject(SubjectKind):
    name = "onnx"
    title = "model.onnx in stock onnxruntime, function bodies"

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        return {"model": str(given.bundle.folder / PORTABLE_MODEL)}

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        return OpenedSession(Path(arguments["model"]), inputs, threads)


SUBJECT = OnnxSubject()
