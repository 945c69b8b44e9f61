"""What many tests share: the golden checkpoints, and bundles exported from them once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lat_export.pipeline import Exported, export
from lat_export.targets.tensorrt_run import gpu_count
from lat_export.types import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "golden"
FAMILY_TASKS = sorted((path.parent.parent.name, path.parent.name) for path in GOLDEN.glob("*/*/golden.json"))


torch.set_num_threads(1)  # tiny models, and the tests have workers of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if gpu_count() == 0:
        skip = pytest.mark.skip(reason="no NVIDIA GPU on this machine")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """`exported(task, target, family)`: a golden checkpoint, exported once a session."""
    done: dict[tuple[str, str, str], Exported] = {}

    def get(task: str, target: str = "onnx", family: str = "longformer") -> Exported:
        key = family, task, target
        if key not in done:
            out = tmp_path_factory.mktemp("bundle") / "-".join(key)
            done[key] = export(ModelSpec(str(GOLDEN / family / task / "checkpoint"), target, out))
        return done[key]

    return get


@pytest.fixture
def checkpoint() -> Path:
    """A small Longformer checkpoint for question answering."""
    return GOLDEN / "longformer" / "question-answering" / "checkpoint"
