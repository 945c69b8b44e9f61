"""What a target is: it lowers the portable ONNX model, builds its own artifact from it, and opens it for a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.types import Range, Signature

if TYPE_CHECKING:
    import numpy as np

PORTABLE_MODEL = "model.onnx"

# A runner maps arrays by input name to arrays by output name.
Runner = Callable[[dict[str, "np.ndarray[Any, Any]"]], dict[str, "np.ndarray[Any, Any]"]]


@dataclass(frozen=True)
class WatchedRunner:
    """A runner that can tell what ran its `lat` nodes.

    Attributes:
        forms: a form by node name; filled by the first run.
    """

    call: Runner
    forms: dict[str, str]

    def __call__(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        return self.call(inputs)


@dataclass(frozen=True)
class BuildPlan:
    """Sizes that an artifact is built for.

    Attributes:
        sizes: range of each named dynamic dimension.
        max_global: bound on the global tokens of a row; None where the artifact has none.
        graph_sha256: digest of the lowered graph that the artifact was built from, once it is known.
    """

    sizes: dict[str, Range]
    max_global: int | None = None
    graph_sha256: str | None = None


@dataclass(frozen=True)
class Built:
    """An artifact on disk, or none where the portable model is the artifact.

    Attributes:
        forms: for each `lat` node by name, what runs it: `BODY`, `NATIVE` or `PLUGIN` of `lat_export.types`.
        details: versions and figures of the build, for the manifest.
        warnings: what the builder said that the user should know.
        roles: for the manifest, by file, of files that only this target has; the artifact is the "engine".
    """

    file: str | None
    build_s: float
    forms: dict[str, str]
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """Something to validate: an artifact and the engine that runs it.

    Attributes:
        open: gives a runner; raises `MissingError` where it cannot run here.
        plan: limits of the artifact; cases outside are left out and counted.
        if_not_run: what may be said of an artifact that could not run.
    """

    name: str
    open: Callable[[], AbstractContextManager[Runner]]
    plan: BuildPlan
    if_not_run: str = "not run"


class Target(ABC):
    """One kind of artifact.

    Attributes:
        name: as `--to` takes it.
        title: as people write it.
        fallback: the target to take where this one is missing, if any.
        has_profile: the artifact holds only for the sizes of its plan.
        is_kit: it builds no artifact here: what it writes does, on another machine.
    """

    name: str
    title: str
    fallback: str | None = None
    has_profile: bool = False
    is_kit: bool = False

    def missing(self) -> str | None:
        """What is missing on this machine and how to get it, in one sentence; None where the target can build."""
        return None

    def lower(self, portable: Path, scratch: Path, plan: BuildPlan) -> Path:
        """The model as this target takes it: the portable one itself, or a rewrite of it in `scratch`."""
        return portable

    @abstractmethod
    def build(self, lowered: Path, folder: Path, signature: Signature, plan: BuildPlan) -> Built:
        """Build the artifact into `folder` from what `lower` gave."""

    @abstractmethod
    def subjects(self, folder: Path, signature: Signature, plan: BuildPlan, scratch: Path) -> list[Subject]:
        """All that is to be validated in a bundle of this target, the portable model first."""
