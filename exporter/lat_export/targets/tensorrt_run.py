"""Runs an engine of TensorRT or TensorRT-RTX on the GPU of this machine.

Never run so far: no machine with a GPU and these libraries was at hand when it was written.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.environment import gpu_count
from lat_export.errors import MissingError, ShapeError, first_line
from lat_export.profiles import profile_holding, profile_text
from lat_export.targets.contract import BuildPlan, Runner
from lat_export.targets.tensorrt_build import logger
from lat_export.targets.tensorrt_open import open_runtime
from lat_export.targets.trt_errors import explained
from lat_export.types import Signature

if TYPE_CHECKING:
    import numpy as np

RTX_SWITCH = "POLYGRAPHY_USE_TENSORRT_RTX"


@contextmanager
def open_runner(
    engine: Path, module: str, signature: Signature, plan: BuildPlan, plugins: Sequence[Path] = ()
) -> Iterator[Runner]:
    """A runner over `engine`; inputs outside of `plan` are refused before they reach the GPU.

    Every call takes the first profile that holds its sizes.

    Args:
        plugins: libraries that the engine's plugins are in.
    Raises:
        MissingError: no GPU, one that cannot take this engine, or no Polygraphy.
    """
    with open_engine(engine, module, plugins, plan.options.runtime_cache) as opened:

        def run(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            profile = demand_profile(signature, plan, inputs)
            if len(plan.profiles) > 1:
                opened.set_profile(profile)
            outputs = opened.infer(inputs)
            return {spec.name: outputs[spec.name] for spec in signature.outputs}

        yield run


def demand_profile(signature: Signature, plan: BuildPlan, inputs: dict[str, np.ndarray[Any, Any]]) -> int:
    """Index of the first profile that holds the inputs.

    Raises:
        ShapeError: inputs that the model does not take, or no profile holds.
    """
    signature.check_inputs(inputs, max_global=plan.max_global)
    profile = profile_holding(plan.profiles, signature.sizes_of(inputs))
    if profile is None:
        raise ShapeError(
            "no profile of the engine holds these sizes",
            got=signature.sizes_of(inputs),
            expected=" or ".join(map(profile_text, plan.profiles)),
            hint="export again with a --profile that holds them",
        )
    return profile


@contextmanager
def open_engine(
    engine: Path, module: str, plugins: Sequence[Path] = (), runtime_cache: Path | None = None
) -> Iterator[Any]:
    """Polygraphy's TrtRunner over `engine`, active.

    Args:
        plugins: libraries that the engine's plugins are in.
        runtime_cache: file of what TensorRT-RTX compiles on this GPU, read where it is there, and written at the end.
    Raises:
        MissingError: no GPU, one that cannot take this engine, or no Polygraphy.
    """
    if gpu_count() == 0:
        raise MissingError("no GPU", got="no NVIDIA GPU or driver on this machine")
    _point_polygraphy_at(module)
    library = importlib.import_module(module)
    log = logger(library)  # Polygraphy only prints errors
    try:
        from polygraphy.backend.common import BytesFromPath
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        # Polygraphy loads plugins into the registry of the process; this runtime's own is asked first.
        runtime = open_runtime(library, plugins, log).runtime
        loaded = EngineFromBytes(BytesFromPath(str(engine)), runtime=runtime)()
        cache = RuntimeCache.of(loaded, runtime_cache) if runtime_cache else None
        opened = TrtRunner(cache.context if cache else loaded)
        opened.activate()
    except Exception as error:  # Polygraphy's and the library's own kinds
        why = explained("the library", [*log.errors, first_line(error)], "run", "does not open it")
        raise MissingError(
            f"this machine cannot load the engine ({first_line(error)})",
            got=f"{why.what}: {why.got}",
            hint=why.hint,
        ) from error

    try:
        yield opened
        if cache:
            cache.save()
    finally:
        opened.deactivate()


def holding_profile(engine: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """The engine's first profile that holds inputs of these shapes; else 0, which the library will refuse."""
    for index in range(engine.num_optimization_profiles):
        bounds = {name: engine.get_tensor_profile_shape(name, index) for name in shapes}
        if all(
            low <= size <= high
            for name, shape in shapes.items()
            for low, size, high in zip(bounds[name][0], shape, bounds[name][2], strict=True)
        ):
            return index
    return 0


@dataclass(frozen=True)
class RuntimeCache:
    """What TensorRT-RTX compiled for this GPU. Polygraphy knows nothing of it, but runs the context that it is in."""

    file: Path
    context: Any
    _cache: Any

    @classmethod
    def of(cls, engine: Any, file: Path) -> RuntimeCache:
        """An execution context over the cache in `file`; one of another GPU or version is left unread."""
        config = engine.create_runtime_config()
        cache = config.create_runtime_cache()
        if file.is_file():
            cache.deserialize(file.read_bytes())
        config.set_runtime_cache(cache)
        return cls(file, engine.create_execution_context(config), cache)

    def save(self) -> None:
        """Whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        half = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        half.write_bytes(bytes(self._cache.serialize()))
        half.replace(self.file)


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
