"""A dry run on a machine without anything: no native ops, and no TensorRT-RTX unless a test wants it.

tests/conftest.py loads it: a second conftest.py would hide that one from `from conftest import ROOT`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lat_export import native
from lat_export.dry_run import DryRun, dry_run
from lat_export.pipeline import export
from lat_export.targets import TARGETS
from lat_export.types import ModelSpec, Range

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
Examined = Callable[..., DryRun]
SIZES = {"batch": Range(1, 1, 2), "sequence": Range(8, 16, 64), "max_global": 4}


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "no plugins"))


@pytest.fixture
def without_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TARGETS["trt-rtx"], "module", "no_such_module")


@pytest.fixture
def examined(without_rtx: None) -> Examined:
    """`examined(path)`: the rules alone, nothing built."""

    def run(path: Path, target: str = "trt", **options: Any) -> DryRun:
        return dry_run(ModelSpec(str(path), target, Path(), **{**SIZES, **options}))

    return run


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A portable bundle of each family, exported once a session."""
    done: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in done:
            done[family] = tmp_path_factory.mktemp("portable") / family
            checkpoint = GOLDEN / family / "question-answering" / "checkpoint"
            export(ModelSpec(str(checkpoint), "onnx", done[family], validate=False))
        return done[family]

    return get
