"""`--to trt --kit`: what builds a TensorRT engine on another machine. Needs neither TensorRT nor a GPU.

The kit is a bundle whose engine is still to be built: model, golden tensors and report as in any other, and beside them
the graph that TensorRT is to be given. `lat_export.stages.kit` adds sources, profile and cases.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

from lat_export import native
from lat_export.errors import MissingError
from lat_export.ops import OPS
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Runner, Subject
from lat_export.targets.lowering import lat_nodes, with_static_bounds
from lat_export.targets.onnx import portable_subject
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.trt import TensorRTNativeTarget
from lat_export.types import BODY, PLUGIN, Signature

KIT_MODEL = "model.trt.onnx"


def plugin_ops() -> set[str]:
    """Names of the ops whose TensorRT plugin the kit's sources hold."""
    return {name for name, op in OPS.items() if (native.SOURCES / op.stem / "tensorrt_plugin.cpp").is_file()}


class TensorRTKit(TensorRTNativeTarget):
    """TensorRT, built elsewhere."""

    is_kit = True

    def missing(self) -> str | None:
        if (native.SOURCES / "CMakeLists.txt").is_file():
            return None
        return f"the sources of the native ops are not in {native.SOURCES}"

    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        started = time.perf_counter()
        portable, ops = folder / PORTABLE_MODEL, plugin_ops()
        # Not `lowered` itself: that has weights of its own, and here large ones are the portable model's.
        with_static_bounds(portable, folder / KIT_MODEL, self.bounds(plan), shares_weights=True)
        forms = {name: PLUGIN if op in ops else BODY for name, op in lat_nodes(portable).items()}
        details = {
            "profile": {name: str(sizes) for name, sizes in plan.sizes.items()},
            "max_global": plan.max_global,
            "checked": "not built: its build.sh builds the engine",
        }
        return Built(None, time.perf_counter() - started, forms, details, roles={KIT_MODEL: "model for TensorRT"})

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        def open_engine() -> AbstractContextManager[Runner]:
            raise MissingError("build.sh builds it and compares it, on the machine that it is for")

        return [
            portable_subject(folder, signature),
            Subject(
                name=f"{KIT_MODEL} in onnxruntime (CPU, function bodies)",
                open=lambda: open_runner(folder / KIT_MODEL, signature, watched=lat_nodes(folder / KIT_MODEL)),
                plan=plan,
            ),
            Subject(
                name=f"{self.engine_file} in {self.title}", open=open_engine, plan=plan, if_not_run="not built here"
            ),
        ]


KIT = TensorRTKit()
