"""A model that answers at once, so that a run can be killed at each of its steps."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lat_export.documents import disk, run, source
from lat_export.documents.answering import Limits, Line
from lat_export.documents.rows import BadRow, Row

LIMITS = Limits(4, 4096, 1.25, "")


class Played:
    """In place of `Answering`: four rows a batch, the last ones first."""

    def answers(self, rows: Iterable[Row | BadRow], skipped: int = 0) -> Iterator[list[Line]]:
        last_first = list(rows)[::-1]
        for place in range(4 * skipped, len(last_first), 4):
            yield [self._line(row) for row in last_first[place : place + 4]]

    def _line(self, row: Row | BadRow) -> Line:
        bad = isinstance(row, BadRow)
        found = {"row": row.number, "reason" if bad else "labels": [] if bad else row.request.text.upper()}
        return Line(row.number, json.dumps(found).encode() + b"\n", bad)


def play(monkeypatch: pytest.MonkeyPatch, chunk_rows: int = 10) -> None:
    """Runs of this process answer by `Played`."""

    @contextmanager
    def opened(*_: Any) -> Iterator[Played]:
        yield Played()

    monkeypatch.setattr(run, "open_answering", opened)
    monkeypatch.setattr(run, "limits_of", lambda *_: LIMITS)
    monkeypatch.setattr("lat_export.documents.jsonl_source.CHUNK_ROWS", chunk_rows)
    assert chunk_rows < source.CHUNK_ROWS


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that gets SIGKILL at its `step`-th write, rename, cut or removal; whether it got there.

    A write that is hit leaves half of its bytes.
    """
    child = os.fork()
    if child == 0:
        _arm(step)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the run failed of itself"
    return False


def _arm(step: int) -> None:
    left = step

    def counted() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    real_write = disk.write_all

    def write(stream: Any, block: bytes) -> None:
        if counted():
            real_write(stream, block[: len(block) // 2])
            die()
        real_write(stream, block)

    disk.write_all = write
    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "truncate"), (Path, "write_text")):
        setattr(owner, name, _deadly(getattr(owner, name), counted, die))


def _deadly(real: Callable[..., Any], counted: Callable[[], bool], die: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if counted():
            die()
        return real(*arguments, **options)

    return call
