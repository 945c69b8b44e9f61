"""Runs an engine of TensorRT or TensorRT-RTX on the GPU of this machine.

Never run so far: no machine with a GPU and these libraries was at hand when it was written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.environment import gpu_count
from lat_export.errors import MissingError, ShapeError, first_line
from lat_export.profiles import profile_holding, profile_text
from lat_export.targets.contract import BuildPlan, Runner
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np

RTX_SWITCH = "POLYGRAPHY_USE_TENSORRT_RTX"


@contextmanager
def open_runner(engine: Path, module: str, signature: Signature, plan: BuildPlan) -> Iterator[Runner]:
    """A runner over `engine`; inputs outside of `plan` are refused before they reach the GPU.

    Every call takes the first profile that holds its sizes.

    Raises:
        MissingError: no GPU, one that cannot take this engine, or no Polygraphy.
    """
    with open_engine(engine, module) as opened:

        def run(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            signature.check_inputs(inputs, max_global=plan.max_global)
            profile = profile_holding(plan.profiles, signature.sizes_of(inputs))
            if profile is None:
                raise ShapeError(
                    "no profile of the engine holds these sizes",
                    got=signature.sizes_of(inputs),
                    expected=" or ".join(map(profile_text, plan.profiles)),
                    hint="export again with a --profile that holds them",
                )
            if len(plan.profiles) > 1:
                opened.set_profile(profile)
            outputs = opened.infer(inputs)
            return {spec.name: outputs[spec.name] for spec in signature.outputs}

        yield run


@contextmanager
def open_engine(engine: Path, module: str) -> Iterator[Any]:
    """Polygraphy's TrtRunner over `engine`, active.

    Raises:
        MissingError: no GPU, one that cannot take this engine, or no Polygraphy.
    """
    if gpu_count() == 0:
        raise MissingError("no GPU", got="no NVIDIA GPU or driver on this machine")
    _point_polygraphy_at(module)
    try:
        from polygraphy.backend.common import BytesFromPath
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        opened = TrtRunner(EngineFromBytes(BytesFromPath(str(engine))))
        opened.activate()
    except Exception as error:  # Polygraphy's and the library's own kinds
        raise MissingError(f"this machine cannot load the engine ({first_line(error)})") from error

    try:
        yield opened
    finally:
        opened.deactivate()


def _point_polygraphy_at(module: str) -> None:
    """Polygraphy reads the switch between the two libraries once, when it is imported."""
    wanted = "1" if module == "tensorrt_rtx" else "0"
    if "polygraphy" in sys.modules and os.environ.get(RTX_SWITCH, "0") != wanted:
        raise MissingError(
            "Polygraphy is already loaded for the other TensorRT library",
            got=f"{RTX_SWITCH}={os.environ.get(RTX_SWITCH, '0')}",
            expected=wanted,
            hint="run this engine in a process of its own",
        )
    os.environ[RTX_SWITCH] = wanted
