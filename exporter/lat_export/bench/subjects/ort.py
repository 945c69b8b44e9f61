"""`ort`: the bundle's best model in onnxruntime with the native ops, as `lat-export run` takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export import native
from lat_export.bench.subjects.contract import Arrays, Opened, SubjectKind
from lat_export.bench.subjects.onnxruntime_subject import OpenedSession
from lat_export.errors import LatExportError, MissingError
from lat_export.targets.ort import best_model

if TYPE_CHECKING:
    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point


class OrtSubject(SubjectKind):
    name = "ort"
    title = "onnxruntime with native ops"

    def lack(self, given: Given) -> LatExportError | None:
        if given.native_ops is not None:
            return None
        try:
            native.demand_ort_library()
        except MissingError as error:
            return error
        return None

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        model = best_model(given.bundle.folder, given.bundle.forms, given.native_ops)
        return {"model": str(model), "native_ops": str(given.native_ops)}

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        return OpenedSession(Path(arguments["model"]), inputs, threads, Path(arguments["native_ops"]))


SUBJECT = OrtSubject()
