"""A kit of each family, written once a session: tests/conftest.py loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lat_export.pipeline import Exported, export
from lat_export.types import ModelSpec, Range

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
# What each shows: a bound on globals and plugins; bodies only, and lengths that are multiples; sampled attention's
# tolerances stand in `test_bars_of_sampled_attention`.
KITS_MADE = {
    "longformer": ("question-answering", {"batch": Range(1, 1, 2), "sequence": Range(16, 64, 128), "max_global": 3}),
    "nystromformer": ("token-classification", {}),
    "yoso": ("multiple-choice", {"choices": Range(2, 2, 3)}),
}
Kit = Callable[[str], Exported]


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit of each family, written once."""
    done: dict[str, Exported] = {}

    def get(family: str) -> Exported:
        if family not in done:
            task, sizes = KITS_MADE[family]
            checkpoint = str(GOLDEN / family / task / "checkpoint")
            out = tmp_path_factory.mktemp("kit") / family
            done[family] = export(ModelSpec(checkpoint, "trt", out, kit=True, **sizes))  # type: ignore[arg-type]
        return done[family]

    return get


def facts_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "kit.json").read_text())
    return found
