"""`engine`: the bundle's engine on the GPU, each request put on a stream layer by layer.

Never run on a GPU so far; the order of its calls is held against modules that play TensorRT and the driver.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.subjects.contract import Arrays, Opened, SubjectKind
from lat_export.bench.subjects.on_stream import OpenedOnStream
from lat_export.environment import gpu_count
from lat_export.errors import LatExportError, MissingError
from lat_export.native.cuda_driver import CudaDriver
from lat_export.stages.bundle import MANIFEST_FILE, Bundle
from lat_export.targets import target_of
from lat_export.targets.tensorrt_run import demand_profile
from lat_export.targets.tensorrt_stream import EngineOnStream
from lat_export.targets.tensorrt_target import TensorRTTarget

if TYPE_CHECKING:
    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point


class OpenedEngine(OpenedOnStream):
    def __init__(self, arguments: dict[str, Any], inputs: Arrays, *, graph: bool) -> None:
        """
        Raises:
            ShapeError: no profile of the engine holds the inputs.
            LatExportError: the library refuses the engine or, with `graph`, cannot be captured.
        """
        folder = Path(arguments["bundle"])
        bundle = Bundle(folder, json.loads((folder / MANIFEST_FILE).read_text()))  # its digests were checked before
        self._signature = bundle.signature
        profile = demand_profile(self._signature, bundle.plan, inputs)
        self.driver = CudaDriver()
        self._engine = EngineOnStream(
            Path(arguments["engine"]),
            arguments["module"],
            arguments["title"],
            [Path(library) for library in arguments["plugins"]],
            self.driver,
        )
        self.stream = self._engine.stream
        self._engine.prepare(inputs, profile)
        self._graph = graph
        if graph:
            self._engine.capture()
        self.note = f"profile {profile} of {len(bundle.plan.profiles)}" if len(bundle.plan.profiles) > 1 else None

    def copy_in(self) -> None:
        self._engine.copy_in()

    def execute(self) -> None:
        if self._graph:
            self._engine.launch()
        else:
            self._engine.execute()

    def copy_out(self) -> None:
        self._engine.copy_out()

    def outputs(self) -> Arrays:
        return {spec.name: self._engine.outputs[spec.name] for spec in self._signature.outputs}

    def device_bytes(self) -> dict[str, int] | None:
        return self._engine.device_bytes


class EngineSubject(SubjectKind):
    name = "engine"
    title = "the bundle's engine on the GPU"
    on_gpu = True
    belongs_to = "bundles with an engine (--to trt, --to trt-rtx)"
    has_graph = False

    def names(self, given: Given) -> list[str]:
        return [self.name] if engine_target(given) else []

    def lack(self, given: Given) -> LatExportError | None:
        target = engine_target(given)
        assert target is not None
        if given.bundle.plan.options.strip_weights:
            return MissingError(f"{self.name}: the engine has no weights", hint="lat-export refit puts them in")
        lacks = [] if gpu_count() else ["no GPU: no NVIDIA GPU or driver on this machine"]
        if (why := target.missing()) is not None:
            lacks.append(f"no {target.title}: {why}")
        if not lacks:
            return None
        what = f"{self.name} needs a GPU and {target.title}"
        return MissingError(what, got="; ".join(lacks), hint="lat-export doctor shows what a machine has")

    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        target = engine_target(given)
        assert target is not None
        return {
            "bundle": str(given.bundle.folder.absolute()),
            "engine": str(given.bundle.folder.absolute() / target.engine_file),
            "module": target.module,
            "title": target.title,
            "plugins": [str(library) for library in target.loaded_for(given.bundle.plan)],
        }

    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        return OpenedEngine(arguments, inputs, graph=self.has_graph)


def engine_target(given: Given) -> TensorRTTarget | None:
    """Whose engine the bundle holds; None where it holds none: others' bundles, and kits, which build theirs later."""
    target = target_of(given.bundle.manifest)
    return target if isinstance(target, TensorRTTarget) and not target.is_kit else None


SUBJECT = EngineSubject()
