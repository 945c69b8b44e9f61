"""The README's tables are those of the committed results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables as module

    yield module
    sys.modules.pop("tables")


def test_readme_has_the_committed_figures(tables) -> None:
    text = (ROOT / "README.md").read_text()
    assert tables.with_tables(text) == text, "python benchmarks/tables.py --write"


def test_a_changed_figure_shows(tables) -> None:
    text = (ROOT / "README.md").read_text()
    assert tables.with_tables(text.replace(" x |", " x  |", 1)) == text
