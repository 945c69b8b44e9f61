"""What TensorRT and TensorRT-RTX have in common as targets."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lat_export import native
from lat_export.digest import file_sha256
from lat_export.engine_options import EngineOptions
from lat_export.environment import gpu_count
from lat_export.errors import InputError, MissingError
from lat_export.ops import StaticBounds
from lat_export.targets import tensorrt_run
from lat_export.targets.contract import PORTABLE_MODEL, BuildPlan, Built, Runner, Subject, Target
from lat_export.targets.lowering import lat_nodes, with_static_bounds
from lat_export.targets.onnx import portable_subject
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.tensorrt_child import answer_of
from lat_export.targets.tensorrt_inspect import layer_facts
from lat_export.targets.trt_options import Refusal, demand_options
from lat_export.types import BODY, PLUGIN, Signature, TensorSpec

MOST_GLOBALS = 3840


@dataclass(frozen=True)
class PluginFiles:
    """
    Attributes:
        why_none: the reason where there are none and could be.
    """

    libraries: tuple[Path, ...] = ()
    why_none: str = ""


class TensorRTTarget(Target):
    """An engine for the GPUs of one vendor library.

    Attributes:
        module: Python module of the library.
        how_to_get: one sentence.
        has_plugins: whether a `lat` node may stay a node, for a plugin to take.
        refuses: options whose names the library has, without what they stand for.
    """

    module: str
    how_to_get: str
    has_profile = True
    has_plugins: bool
    refuses: Mapping[str, Refusal] = MappingProxyType({})

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

    def demand_options(self, options: EngineOptions) -> None:
        demand_options(options, self.title, self.module, self.refuses, has_gpu=gpu_count() > 0)
        if options.embed_plugins:
            native.tensorrt_library()

    def plugins(self) -> PluginFiles:
        """Those of this machine that an engine is built with, and run with."""
        if not self.has_plugins:
            return PluginFiles()
        try:
            return PluginFiles((native.tensorrt_library(),))
        except MissingError as error:
            return PluginFiles(why_none=str(error.got))

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
        forms = {name: PLUGIN if name in plugin_nodes else BODY for name in nodes}
        kept = folder / layers_file(self.engine_file)
        kept.write_text(json.dumps(kept_layers(answer)))
        return Built(
            self.engine_file,
            time.perf_counter() - started,
            forms,
            {
                self.module: answer["version"],
                "profiles": plan.texts,
                "max_global": plan.max_global,
                "inputs": answer["inputs"],
                "outputs": answer["outputs"],
                "checked": answer["checked"],
                **{part: answer[part] for part in ("timing_cache",) if part in answer},
            },
            (*answer["warnings"], *self._notes_on_forms(forms)),
            {kept.name: "layers of the engine"},
        )

    def _notes_on_forms(self, forms: dict[str, str]) -> Iterator[str]:
        bodies = [name for name, form in forms.items() if form == BODY]
        if self.has_plugins and bodies:
            why = self.plugins().why_none or f"the plugin library has none for {bodies[0]} and its like"
            yield f"{len(bodies)} of {len(forms)} lat nodes run as ONNX function bodies, slower than plugins: {why}"

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
            "profiles": profiles_of(inputs, plan),
            "plugins": [str(library) for library in self.plugins().libraries],
            "options": plan.options.to_json(),
            "timing_cache": plan.options.timing_cache and str(plan.options.timing_cache.absolute()),
        }
        return answer_of("tensorrt_build", self.title, request, "build", "built the engine")

    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        lowered = self.lower(folder / PORTABLE_MODEL, scratch, plan)
        engine = folder / self.engine_file

        def open_lowered() -> AbstractContextManager[Runner]:
            if plan.graph_sha256 not in (None, file_sha256(lowered)):
                raise MissingError("this version of lat-export lowers to another graph than the engine was built from")
            return open_runner(lowered, signature, watched=lat_nodes(folder / PORTABLE_MODEL))

        def open_engine() -> AbstractContextManager[Runner]:
            if plan.options.strip_weights:
                raise MissingError("the engine has no weights: lat-export refit puts them in")
            return tensorrt_run.open_runner(engine, self.module, signature, plan, self.loaded_for(plan))

        return [
            portable_subject(folder, signature),
            Subject(
                name=f"the graph given to {self.title}, in onnxruntime (CPU)",
                open=open_lowered,
                plan=plan,
            ),
            Subject(
                name=f"{self.engine_file} in {self.title}",
                open=open_engine,
                plan=plan,
                if_not_run="built, not run",
            ),
        ]

    def loaded_for(self, plan: BuildPlan) -> tuple[Path, ...]:
        """Plugin libraries that its engine wants before it is opened: none that it has in itself."""
        return () if plan.options.embed_plugins else self.plugins().libraries


def layers_file(engine_file: str) -> str:
    """Beside the engine: what the build knew of its layers and memory, for `lat-export inspect`."""
    return Path(engine_file).with_suffix(".layers.json").name


def kept_layers(answer: dict[str, Any]) -> dict[str, Any]:
    """Of an answer of `tensorrt_build.build`: "network" and "engine" (None where it was not opened), and "memory"."""
    told = answer["inspector"]
    engine = None if told is None else [layer_facts(layer) for layer in json.loads(told).get("Layers", [])]
    return {"network": answer["network"], "engine": engine, "memory": answer["memory"]}


def profiles_of(inputs: tuple[TensorSpec, ...], plan: BuildPlan) -> list[dict[str, list[list[int]]]]:
    """For every profile, smallest, usual and largest shape of every input."""
    return [
        {
            spec.name: [
                [getattr(sizes[dim], bound) if isinstance(dim, str) else dim for dim in spec.dims]
                for bound in ("min", "opt", "max")
            ]
            for spec in inputs
        }
        for sizes in plan.profiles
    ]
