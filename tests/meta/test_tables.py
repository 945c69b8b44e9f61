"""The tables of figures are those of the committed results."""

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


def test_pages_have_the_committed_figures(tables) -> None:
    for page in tables.PAGES:
        text = page.read_text()
        assert tables.with_tables(text) == text, "python benchmarks/tables.py --write"


def test_every_table_stands_in_one_page(tables) -> None:
    texts = [page.read_text() for page in tables.PAGES]
    for name in tables.TABLES:
        assert sum(text.count(f"<!-- begin: {name} -->") for text in texts) == 1


def test_a_changed_figure_shows(tables) -> None:
    for page in tables.PAGES:
        text = page.read_text()
        assert tables.with_tables(text.replace(" x |", " x  |", 1)) == text
