"""The portable model alone: opset-20 ONNX with `lat` nodes and their bodies."""

from __future__ import annotations

from pathlib import Path

from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Subject, Target
from lat_export.targets.half_on_cpu import has_bfloat16
from lat_export.targets.lowering import lat_nodes
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import BODY, Signature


def portable_subject(folder: Path, signature: Signature) -> Subject:
    """The portable model in stock onnxruntime, no code of ours in it; it takes every size."""
    return Subject(
        name=f"{PORTABLE_MODEL} in onnxruntime (CPU, function bodies)",
        open=lambda: open_runner(folder / PORTABLE_MODEL, signature, watched=lat_nodes(folder / PORTABLE_MODEL)),
        plan=BuildPlan({}),
    )


def _warnings(model: Path) -> tuple[str, ...]:
    import onnx_ir as ir

    if not has_bfloat16(ir.load(model)):
        return ()
    return (
        f"onnxruntime has no bfloat16 kernels on the CPU and refuses {PORTABLE_MODEL}; lat-export runs it there with "
        "Casts to float32 put in, and --to ort writes a model that has them",
    )


class OnnxTarget(Target):
    """`--to onnx`."""

    name = "onnx"
    title = "ONNX"

    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        return Built(None, 0.0, dict.fromkeys(lat_nodes(lowered), BODY), warnings=_warnings(lowered))

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        return [portable_subject(folder, signature)]


TARGET = OnnxTarget()
