"""ONNX Runtime: the portable model with onnxruntime's own fusions applied once, saved for a quick start."""

from __future__ import annotations

import time
from pathlib import Path

from lat_export.targets.contract import BuildPlan, Built, Subject, Target
from lat_export.targets.lowering import lat_nodes
from lat_export.targets.onnx import portable_subject
from lat_export.targets.onnxruntime_session import open_runner, session
from lat_export.types import Signature

OPTIMISED_MODEL = "model.ort.onnx"


class OrtTarget(Target):
    """`--to ort`."""

    name = "ort"
    title = "ONNX Runtime"

    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        import onnxruntime

        started = time.perf_counter()
        session(lowered, optimised_copy=folder / OPTIMISED_MODEL)
        return Built(
            OPTIMISED_MODEL,
            time.perf_counter() - started,
            dict.fromkeys(lat_nodes(lowered), "body"),
            {"onnxruntime": onnxruntime.__version__, "optimisation": "extended"},
        )

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        optimised = Subject(
            name=f"{OPTIMISED_MODEL} in onnxruntime (CPU, function bodies)",
            open=lambda: open_runner(folder / OPTIMISED_MODEL, signature),
            plan=BuildPlan({}),
        )
        return [portable_subject(folder, signature), optimised]


TARGET = OrtTarget()
