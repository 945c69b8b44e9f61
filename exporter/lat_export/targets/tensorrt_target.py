"""What TensorRT and TensorRT-RTX have in common as targets."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lat_export.errors import InputError, LatExportError
from lat_export.ops import StaticBounds
from lat_export.targets import tensorrt_run
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Subject, Target
from lat_export.targets.lowering import lat_nodes, with_static_bounds
from lat_export.targets.onnx import portable_subject
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import Signature


class TensorRTTarget(Target):
    """An engine for the GPUs of one vendor library.

    Attributes:
        module: Python module of the library.
        how_to_get: one sentence.
        has_plugins: whether a `lat` node may stay a node, for a plugin to take.
    """

    module: str
    how_to_get: str
    fixed_shapes = True
    has_plugins: bool

    @property
    def engine_file(self) -> str:
        return f"model.{self.name}.engine"

    def missing(self) -> str | None:
        if importlib.util.find_spec(self.module) is None:
            return self.how_to_get
        trial = self._import_in_child()
        if trial.returncode != 0:
            reason = trial.stderr.strip().splitlines()[-1:] or ["no reason given"]
            return f"{self.how_to_get} (the Python package {self.module} is there but does not load: {reason[0]})"
        return None

    def version(self) -> str:
        """Version of the library, which must not be missing."""
        return self._import_in_child().stdout.strip()

    def _import_in_child(self) -> subprocess.CompletedProcess[str]:
        """In a process of its own: PyPI has the bindings without the libraries, and two TensorRTs do not share one."""
        command = [sys.executable, "-c", f"import {self.module} as m; print(m.__version__)"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def lower(self, portable: Path, scratch: Path, plan: BuildPlan) -> Path:
        lowered = scratch / f"{self.name}.onnx"
        bounds = StaticBounds(max_global=plan.max_global)
        return with_static_bounds(portable, lowered, bounds, inlined=not self.has_plugins)

    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        engine = folder / self.engine_file
        request = {
            "module": self.module,
            "model": str(lowered),
            "engine": str(engine),
            "answer": str(lowered.with_suffix(".answer.json")),
            "profile": _profile(signature, plan),
            "plugins": [],
        }
        started = time.perf_counter()
        answer = _build_in_child(self.title, request)
        nodes = lat_nodes(folder / PORTABLE_MODEL)
        plugin_nodes = set(answer["plugin_nodes"])
        return Built(
            self.engine_file,
            time.perf_counter() - started,
            {name: "plugin" if name in plugin_nodes else "body" for name in nodes},
            {
                self.module: answer["version"],
                "profile": {name: str(sizes) for name, sizes in plan.sizes.items()},
                "max_global": plan.max_global,
                "inputs": answer["inputs"],
                "outputs": answer["outputs"],
                "warnings": answer["warnings"],
            },
        )

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        lowered = self.lower(folder / PORTABLE_MODEL, scratch, plan)
        engine = folder / self.engine_file
        return [
            portable_subject(folder, signature),
            Subject(
                name=f"the graph given to {self.title}, in onnxruntime (CPU)",
                open=lambda: open_runner(lowered, signature),
                plan=plan,
            ),
            Subject(
                name=f"{self.engine_file} in {self.title}",
                open=lambda: tensorrt_run.open_runner(engine, self.module, signature, plan),
                plan=plan,
                if_not_run="built, not run",
            ),
        ]


def _profile(signature: Signature, plan: BuildPlan) -> dict[str, list[list[int]]]:
    """Smallest, usual and largest shape of every input."""
    return {
        spec.name: [
            [getattr(plan.sizes[dim], bound) if isinstance(dim, str) else dim for dim in spec.dims]
            for bound in ("min", "opt", "max")
        ]
        for spec in signature.inputs
    }


def _build_in_child(title: str, request: dict[str, Any]) -> dict[str, Any]:
    answer_file = Path(request["answer"])
    request_file = answer_file.with_suffix(".request.json")
    request_file.write_text(json.dumps(request))
    child = subprocess.run(
        [sys.executable, "-m", "lat_export.targets.tensorrt_build", str(request_file)],
        capture_output=True,
        text=True,
        check=False,
    )
    where = {"stage": "build"}
    if child.returncode < 0:
        raise InputError(
            f"{title} crashed while it built the engine",
            got=signal.Signals(-child.returncode).name,
            hint="this is a fault of the library on this graph; --to onnx or --to ort works without it",
            where=where,
        )
    if child.returncode > 0:
        raise LatExportError(f"the builder of {title} failed", got=child.stderr.strip()[-2000:], where=where)
    answer: dict[str, Any] = json.loads(answer_file.read_text())
    if answer["errors"]:
        raise InputError(
            f"{title} does not take this graph",
            got="\n".join(answer["errors"][:5]),
            where=where,
        )
    return answer
