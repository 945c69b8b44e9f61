"""For tests that export one checkpoint many times, with other options of the engine: tests/conftest.py loads it.

What an export without validation does before it lowers the graph hangs on the checkpoint alone, and takes most of its
time.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lat_export import pipeline
from lat_export.dry_run import start
from lat_export.engine_options import EngineOptions
from lat_export.stages.graph import Graph, build_graph
from lat_export.stages.load import Loaded, load
from lat_export.stages.trace import Traced, trace
from lat_export.targets.contract import PORTABLE_MODEL
from lat_export.types import ModelSpec

# What the stages up to the graph do not look at.
LATER = {
    "target": "", "out": Path(), "batch": None, "choices": None, "sequence": None, "profiles": (), "max_global": None,
    "force": False, "kit": False, "engine": EngineOptions(), "precision": "fp32", "keep_fp32": None,
}  # fmt: skip


class _Kept:
    """The first three stages, each the real one where it has not run for these arguments."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, Loaded] = {}
        self._graphs: dict[int, Graph] = {}

    def load(self, spec: ModelSpec) -> Loaded:
        if spec.validate:
            return load(spec)  # the model itself is asked then
        key = repr(replace(spec, **LATER))
        if key not in self._loaded:
            self._loaded[key] = load(spec)
        return self._loaded[key]

    def trace(self, loaded: Loaded) -> Traced | None:
        return None if any(one is loaded for one in self._loaded.values()) else trace(loaded)

    def build_graph(self, loaded: Loaded, traced: Traced | None, folder: Path) -> Graph:
        if traced is not None:
            return build_graph(loaded, traced, folder)
        key = id(loaded)
        if key not in self._graphs:
            graph = build_graph(loaded, trace(loaded), folder)
            kept = self._folder / str(len(self._graphs))
            kept.mkdir()
            self._graphs[key] = replace(graph, model=Path(shutil.copy(graph.model, kept)))
        graph = self._graphs[key]
        folder.mkdir(exist_ok=True)
        return replace(graph, model=Path(shutil.copy(graph.model, folder / PORTABLE_MODEL)))


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> _Kept:
    return _Kept(tmp_path_factory.mktemp("graphs"))


@pytest.fixture
def traced_once(_kept: _Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports and dry runs of a checkpoint that was traced before take the graph of that time."""
    patched: tuple[Any, ...] = (pipeline, start)
    for module in patched:
        for name in ("load", "trace", "build_graph"):
            monkeypatch.setattr(module, name, getattr(_kept, name))
