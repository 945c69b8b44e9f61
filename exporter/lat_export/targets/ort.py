"""ONNX Runtime: the portable model with onnxruntime's own fusions applied once, saved for a quick start.

Where the native ops are there, the saved model keeps its `lat` nodes, and their bodies: one file that runs native with
the library and as bodies without it. Without them at export, onnxruntime knows a `lat` node only as its body, and saves
that; `best_model` then takes the portable model on a machine that has them.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from lat_export.native import demand_ort_library, ort_library, why_not_used
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Subject, Target
from lat_export.targets.lowering import lat_nodes
from lat_export.targets.onnx import portable_subject
from lat_export.targets.onnxruntime_session import open_runner, session
from lat_export.types import BODY, NATIVE, Signature

OPTIMISED_MODEL = "model.ort.onnx"
ORT_DOMAIN = "com.microsoft"


class OrtTarget(Target):
    """`--to ort`."""

    name = "ort"
    title = "ONNX Runtime"

    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        import onnxruntime

        optimised, library = folder / OPTIMISED_MODEL, ort_library()
        started = time.perf_counter()
        session(lowered, optimised_copy=optimised, native_ops=library)
        kept = lat_nodes(optimised)
        if kept:
            _append_bodies(lowered, optimised)
        return Built(
            OPTIMISED_MODEL,
            time.perf_counter() - started,
            {name: NATIVE if name in kept else BODY for name in lat_nodes(lowered)},
            {"onnxruntime": onnxruntime.__version__, "optimisation": "extended", "fused": _fused_nodes(optimised)},
            _warnings(),
        )

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        nodes = lat_nodes(folder / PORTABLE_MODEL)
        optimised = Subject(
            name=f"{OPTIMISED_MODEL} in onnxruntime (CPU, function bodies)",
            open=lambda: open_runner(folder / OPTIMISED_MODEL, signature, watched=nodes),
            plan=BuildPlan({}),
        )
        subjects = [portable_subject(folder, signature), optimised]
        kept = bool(lat_nodes(folder / OPTIMISED_MODEL))
        if kept or ort_library():
            model = OPTIMISED_MODEL if kept else PORTABLE_MODEL
            native = Subject(
                name=f"{model} in onnxruntime (CPU, native ops)",
                open=lambda: open_runner(folder / model, signature, demand_ort_library(), nodes),
                plan=BuildPlan({}),
            )
            subjects.append(native)
        return subjects


def best_model(folder: Path, forms: dict[str, str], native_ops: Path | None) -> Path:
    """The fastest model of a bundle on this machine.

    Args:
        forms: what the bundle's manifest says of its `lat` nodes.
        native_ops: the library of native ops, where there is one.
    """
    optimised = folder / OPTIMISED_MODEL
    bodies_only = NATIVE not in forms.values()
    if not optimised.is_file() or (native_ops and bodies_only):
        return folder / PORTABLE_MODEL
    return optimised


def _warnings() -> tuple[str, ...]:
    """Native ops that are there, and cannot be used."""
    unusable = why_not_used()
    if unusable is None:
        return ()
    expected = f", expected {unusable.expected}" if unusable.expected else ""
    return (f"every lat node runs as its body: {unusable.what} (got {unusable.got}{expected}; {unusable.hint})",)


def _fused_nodes(optimised: Path) -> dict[str, int]:
    """How often each of onnxruntime's own fusions fired, by the op that it put in place of others."""
    import onnx_ir as ir

    return dict(Counter(node.op_type for node in ir.load(optimised).graph if node.domain == ORT_DOMAIN).most_common())


def _append_bodies(model: Path, optimised: Path) -> None:
    """onnxruntime drops the bodies of nodes that it runs itself. Protobuf messages merge by concatenation, and
    `functions` is a repeated field: no weight is read or written again."""
    import onnx

    bodies = onnx.load(model, load_external_data=False).functions
    with optimised.open("ab") as file:
        file.write(onnx.ModelProto(functions=bodies).SerializeToString())


TARGET = OrtTarget()
