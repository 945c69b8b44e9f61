"""The terminal: data on stdout, progress and errors on stderr, and tables that fit."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lat_export.errors import LatExportError

# Where stdout is no terminal a table is never squeezed or folded: it is read by programs and pasted into reports.
PIPED_WIDTH = 200
STYLES = {"passed": "green", "failed": "bold red", "not run": "yellow", "missing": "yellow", "not used": "yellow"}


def tell(line: str) -> None:
    """One line of progress, to stderr."""
    print(line, file=sys.stderr, flush=True)


def print_error(error: LatExportError) -> None:
    print(f"error: {error}", file=sys.stderr)


def console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, soft_wrap=False)


def out(*parts: Any) -> None:
    opened = console()
    for part in parts:
        opened.print(part)


def whole_lines(lines: Iterable[str]) -> None:
    """Longer ones than the terminal is wide are its own business."""
    for line in lines:
        console().print(line, soft_wrap=True)


def fits(table: Table) -> bool:
    """Whether a table is set without folding a cell."""
    from rich.measure import Measurement

    opened = console()
    unbounded = opened.options.update(width=10 * PIPED_WIDTH)
    return Measurement.get(opened, unbounded, table).maximum <= opened.width


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[str] = ()) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


def size(count: int) -> str:
    """Bytes as people read them."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
