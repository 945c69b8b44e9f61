"""A run over a file of documents: how fast and how long yet, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lat_export.console.terminal import tell, whole_lines

if TYPE_CHECKING:
    from lat_export.documents import Progress, Summary

# Between two lines, where stderr is no terminal.
SILENCE_S = 10.0


@contextmanager
def documents_progress() -> Iterator[Callable[[Progress], None]]:
    """On stderr: a bar in a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("documents, {task.fields[rate]}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("documents", total=None, rate="")
        started = time.monotonic()

        def report(progress: Progress) -> None:
            rate, _ = _rate(progress, time.monotonic() - started)
            bar.update(task, completed=progress.done, total=progress.rows, rate=f"{rate:.1f}/s")

        yield report


def _lines() -> Callable[[Progress], None]:
    started = told = time.monotonic()
    first = True

    def report(progress: Progress) -> None:
        nonlocal told, first
        now = time.monotonic()
        if first:
            again = f", {progress.resumed} of them done before" if progress.resumed else ""
            tell(f"{progress.rows} documents{again}")
        elif now - told >= SILENCE_S:
            rate, left_s = _rate(progress, now - started)
            tell(f"{progress.done} of {progress.rows} documents, {rate:.1f}/s, {_duration(left_s)} left")
        else:
            return
        told, first = now, False

    return report


def _rate(progress: Progress, seconds: float) -> tuple[float, float]:
    """Rows a second of this run, and seconds left at that rate."""
    rate = (progress.done - progress.resumed) / seconds if seconds > 0 else 0.0
    return rate, (progress.rows - progress.done) / rate if rate else 0.0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_documents(summary: Summary) -> None:
    before = f" ({summary.resumed} rows were done before)" if summary.resumed else ""
    lines = [f"{summary.output}: {summary.answered} answers in {_duration(summary.seconds)}{before}"]
    if summary.bad:
        lines.append(f"{summary.bad_output}: {summary.bad} rows that have no answer, with the reason of each")
    if summary.batching:
        lines.append(f"batches: {summary.batching}")
    whole_lines(lines)
