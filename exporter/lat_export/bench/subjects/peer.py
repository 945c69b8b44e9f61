"""`peer:NAME`: another's ONNX file in stock onnxruntime, with the same inputs as far as it takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.subjects.contract import Arrays, Opened, SubjectKind
from lat_export.bench.subjects.onnxruntime_subject import OpenedSession

if TYPE_CHECKING:
    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point


class PeerSubject(SubjectKind):
    name = "peer"
    title = "another's ONNX file in stock onnxruntime"

    def names(self, given: Given) -> list[str]:
        return [f"{self.name}:{name}" for name in given.peers]

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        return {"model": str(given.peers[name.partition(":")[2]])}

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        return OpenedSession(Path(arguments["model"]), inputs, threads)


SUBJECT = PeerSubject()
