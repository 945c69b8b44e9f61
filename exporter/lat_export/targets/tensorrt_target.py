"""What TensorRT and TensorRT-RTX have in common as targets."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lat_export
from lat_export.digest import file_sha256
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.ops import StaticBounds
from lat_export.targets import tensorrt_run
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Runner, Subject, Target
from lat_export.targets.lowering import lat_nodes, with_static_bounds
from lat_export.targets.onnx import portable_subject
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import BODY, PLUGIN, Signature, TensorSpec

MOST_GLOBALS = 3840


class TensorRTTarget(Target):
    """An engine for the GPUs of one vendor library.

    Attributes:
        module: Python module of the library.
        how_to_get: one sentence.
        has_plugins: whether a `lat` node may stay a node, for a plugin to take.
    """

    module: str
    how_to_get: str
    has_profile = True
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
        return with_static_bounds(portable, lowered, self.bounds(plan), inlined=not self.has_plugins)

    def bounds(self, plan: BuildPlan) -> StaticBounds:
        """
        Raises:
            InputError: more global tokens than the library can find.
        """
        if plan.max_global is not None and plan.max_global > MOST_GLOBALS:
            raise InputError(
                f"{self.title} finds at most {MOST_GLOBALS} global tokens in a row (the limit of its TopK)",
                got=f"--max-global {plan.max_global}",
                expected=f"at most {MOST_GLOBALS}",
                where={"stage": "lower"},
            )
        return StaticBounds(max_global=plan.max_global)

    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        started = time.perf_counter()
        answer = self.build_engine(lowered, folder / self.engine_file, signature.inputs, plan)
        nodes = lat_nodes(folder / PORTABLE_MODEL)
        plugin_nodes = set(answer["plugin_nodes"])
        return Built(
            self.engine_file,
            time.perf_counter() - started,
            {name: PLUGIN if name in plugin_nodes else BODY for name in nodes},
            {
                self.module: answer["version"],
                "profile": {name: str(sizes) for name, sizes in plan.sizes.items()},
                "max_global": plan.max_global,
                "inputs": answer["inputs"],
                "outputs": answer["outputs"],
                "checked": answer["checked"],
            },
            tuple(answer["warnings"]),
        )

    def build_engine(
        self, lowered: Path, engine: Path, inputs: tuple[TensorSpec, ...], plan: BuildPlan
    ) -> dict[str, Any]:
        """Write `engine`, in a process of its own.

        Returns:
            The answer of `tensorrt_build.build`, without errors.
        Raises:
            InputError: the library does not take the graph, or crashed on it.
        """
        request = {
            "module": self.module,
            "model": str(lowered),
            "engine": str(engine),
            "answer": str(lowered.with_suffix(".answer.json")),
            "profile": profile_of(inputs, plan),
            "plugins": [],
        }
        return _build_in_child(self.title, request)

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        lowered = self.lower(folder / PORTABLE_MODEL, scratch, plan)
        engine = folder / self.engine_file

        def open_lowered() -> AbstractContextManager[Runner]:
            if plan.graph_sha256 not in (None, file_sha256(lowered)):
                raise MissingError("this version of lat-export lowers to another graph than the engine was built from")
            return open_runner(lowered, signature, watched=lat_nodes(folder / PORTABLE_MODEL))

        return [
            portable_subject(folder, signature),
            Subject(
                name=f"the graph given to {self.title}, in onnxruntime (CPU)",
                open=open_lowered,
                plan=plan,
            ),
            Subject(
                name=f"{self.engine_file} in {self.title}",
                open=lambda: tensorrt_run.open_runner(engine, self.module, signature, plan),
                plan=plan,
                if_not_run="built, not run",
            ),
        ]


def profile_of(inputs: tuple[TensorSpec, ...], plan: BuildPlan) -> dict[str, list[list[int]]]:
    """Smallest, usual and largest shape of every input."""
    return {
        spec.name: [
            [getattr(plan.sizes[dim], bound) if isinstance(dim, str) else dim for dim in spec.dims]
            for bound in ("min", "opt", "max")
        ]
        for spec in inputs
    }


def _build_in_child(title: str, request: dict[str, Any]) -> dict[str, Any]:
    answer_file = Path(request["answer"])
    request_file = answer_file.with_suffix(".request.json")
    request_file.write_text(json.dumps(request))
    # The child imports the package that runs here, also from a checkout that is not installed.
    source_root = str(Path(lat_export.__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, (source_root, os.environ.get("PYTHONPATH"))))
    child = subprocess.run(
        [sys.executable, "-m", "lat_export.targets.tensorrt_build", str(request_file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": search_path},
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
