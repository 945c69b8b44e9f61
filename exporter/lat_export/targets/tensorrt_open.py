"""How every program here opens an engine: a log that keeps the library's words, plugins loaded, host code allowed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lat_export.targets.tensorrt_build import logger

if TYPE_CHECKING:
    # As in tensorrt_build.
    import tensorrt

NO_REASON = "the library gave no engine and no reason"


@dataclass(frozen=True)
class OpenedRuntime:
    """
    Attributes:
        log: must outlive the runtime; its `errors` are what the library says, more with every call.
    """

    log: Any
    runtime: tensorrt.Runtime

    def engine(self, path: Path) -> tensorrt.ICudaEngine | None:
        """None where the library refuses it: `why` says what it said."""
        return self.runtime.deserialize_cuda_engine(path.read_bytes())

    @property
    def why(self) -> list[str]:
        """At least one reason."""
        errors: list[str] = self.log.errors
        return errors or [NO_REASON]


def open_runtime(trt: ModuleType, plugins: Iterable[str | Path], log: Any = None) -> OpenedRuntime:
    """
    Args:
        trt: tensorrt or tensorrt_rtx.
        plugins: libraries that engines' plugins are in.
        log: what `logger` made, where the caller wants its words also if there will be no runtime.
    """
    log = log or logger(trt)
    runtime: tensorrt.Runtime = trt.Runtime(log)
    # Embedded plugins and the lean runtime of a version-compatible engine are host code.
    runtime.engine_host_code_allowed = True
    for library in plugins:
        runtime.get_plugin_registry().load_library(str(library))
    return OpenedRuntime(log, runtime)
