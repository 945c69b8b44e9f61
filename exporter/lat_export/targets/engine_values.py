"""Values inside an engine: one side of a search for a divergence.

An engine shows its outputs only, so for every cut a small engine is built, of what the wanted values need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.environment import gpu_count
from lat_export.errors import MissingError
from lat_export.onnx_file import save
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan
from lat_export.targets.onnx_values import OnnxValues
from lat_export.targets.tensorrt_run import open_runner
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.types import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np


OF_WHOLE_ENGINES: dict[str, Any] = {
    "strip_weights": False,
    "refittable": False,
    "embed_plugins": False,
    "timing_cache": None,
    "runtime_cache": None,
}


class EngineValues:
    """One side: engines of one target, built from parts of a portable model. Never run so far, for want of a GPU.

    Attributes:
        name: for reports.
        values: all values that the model's nodes make, but for whole numbers.
    """

    def __init__(
        self, target: TensorRTTarget, model: Path, signature: Signature, plan: BuildPlan, scratch: Path
    ) -> None:
        self.name = f"{target.title} engines of parts of {model.name}"
        self._target, self._signature, self._scratch = target, signature, scratch
        # With weights, whatever the whole engine has, and without a trace outside of `scratch`.
        options = replace(plan.options, **OF_WHOLE_ENGINES)
        self._plan = replace(plan, options=options)
        self._model = OnnxValues(model)
        self.steps = self._model.steps
        self.values = self._model.values - self.steps.whole_numbers

    def __call__(
        self, inputs: dict[str, np.ndarray[Any, Any]], wanted: Sequence[str]
    ) -> dict[str, np.ndarray[Any, Any]]:
        if gpu_count() == 0:
            raise MissingError("no GPU", got="no NVIDIA GPU or driver on this machine")
        engine, asked = self.build(wanted)
        plugins = self._target.loaded_for(self._plan)
        with open_runner(engine, self._target.module, asked, self._plan, plugins) as run:
            return run(inputs)

    def build(self, wanted: Sequence[str]) -> tuple[Path, Signature]:
        """An engine that gives the wanted values, and how it is called. Needs no GPU where the target needs none."""
        cut = self._scratch / PORTABLE_MODEL
        save(self._model.cut_back(wanted), cut)
        outputs = tuple(TensorSpec(name, "float32", ()) for name in wanted)
        asked = replace(self._signature, outputs=outputs)
        built = self._target.build(self._target.lower(cut, self._scratch, self._plan), self._scratch, asked, self._plan)
        return self._scratch / str(built.file), asked
