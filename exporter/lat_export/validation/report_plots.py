"""Plots of a report as SVG to set into HTML: the text is text, and the colours are the page's own.

No name out of a report gets into a plot: what series mean is said in the page, where it is escaped.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lat_export.plots import PAGE, axes_of, log_axis, page_svg, token_axis
from lat_export.validation.report import FAILED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Drawn by matplotlib, and named by the sign that looks alike.
MARKERS = (("o", "\u25cf"), ("s", "\u25a0"), ("D", "\u25c6"), ("v", "\u25bc"))
TOKENS = re.compile(r"\bN=(\d+)\b")


def histogram_plot(rows: Sequence[dict[str, Any]], decades: Sequence[int], key: str) -> str:
    """How many numbers are how far off, over all rows that could be compared.

    Args:
        key: what the ids in this plot begin with.
    """
    bins = range(len(decades) + 1)
    counts = [sum(row["histogram"][bin_] for row in rows if len(row["histogram"]) == len(bins)) for bin_ in bins]
    with axes_of(PAGE) as (figure, axes):
        axes.bar(list(bins), counts, width=0.86, color=PAGE.series[0], zorder=2)
        log_axis(axes, 0.7, max(counts) * 2.0 + 1)
        axes.set_ylabel("numbers")
        axes.set_xlim(-0.6, len(decades) + 0.6)
        # An edge between two bins is a power of ten.
        every = range(0, len(decades), 2)
        axes.set_xticks(
            [place + 0.5 for place in every], [f"1e{decades[place]}" if decades[place] else "1" for place in every]
        )
        axes.set_xlabel("error / root mean square of the reference")
        tolerance = _usual_tolerance(rows)
        if tolerance and decades[0] <= math.log10(tolerance) <= decades[-1]:
            axes.axvline(math.log10(tolerance) - decades[0] + 0.5, color=PAGE.bad, linestyle=(0, (4, 3)), linewidth=1.0)
        described = f"Histogram of {sum(counts)} errors by power of ten, with the tolerance of relative L2 dashed"
        return page_svg(figure, key, described)


def error_plot(rows: Sequence[dict[str, Any]], outputs: Sequence[str], key: str) -> str:
    """Relative L2 of every row: against tokens where all cases say how many they have, else in the order of the rows.

    Args:
        outputs: each has a series of its own; one with no place in `MARKERS` shares the last.
    """
    lengths = [TOKENS.search(row["case"]) for row in rows]
    by_tokens = all(lengths) and len({found[1] for found in lengths if found}) > 1
    places = [int(found[1]) if by_tokens and found else index for index, found in enumerate(lengths)]
    with axes_of(PAGE) as (figure, axes):
        low, high = _range([row[name] for row in rows for name in ("relative_l2", "tolerance")])
        for series, (marker, _) in enumerate(MARKERS):
            own = [i for i, row in enumerate(rows) if series_of(row["output"], outputs) == series]
            for bad, colour in ((False, PAGE.series[series]), (True, PAGE.bad)):
                points = [i for i in own if (rows[i]["verdict"] == FAILED) == bad]
                heights = [_height(rows[i]["relative_l2"], low, high) for i in points]
                size = 34 if bad else 20
                axes.scatter([places[i] for i in points], heights, s=size, marker=marker, c=colour, alpha=0.8, zorder=3)
        _tolerances(axes, rows, places)
        if by_tokens:
            token_axis(axes, places)
        axes.set_xlabel("tokens N" if by_tokens else "comparison, in the order of the report")
        log_axis(axes, low, high * 1.3)
        axes.set_ylabel("relative L2")
        described = f"Relative L2 of {len(rows)} comparisons with their tolerance dashed, log scale"
        return page_svg(figure, key, described)


def layer_plot(layers: Sequence[dict[str, Any]], key: str) -> str:
    """Relative L2 of the hidden state after each layer."""
    with axes_of(PAGE) as (figure, axes):
        errors = [layer["relative_l2"] for layer in layers]
        low, high = _range(errors)
        numbers = [layer["layer"] for layer in layers]
        heights = [_height(error, low, high) for error in errors]
        axes.plot(numbers, heights, color=PAGE.series[0], linewidth=1.3, marker="o", markersize=4, zorder=2)
        lost = [index for index, error in enumerate(errors) if error is None]
        axes.scatter([numbers[i] for i in lost], [heights[i] for i in lost], c=PAGE.bad, s=34, zorder=3)
        step = max(1, math.ceil(len(numbers) / 14))
        axes.set_xticks(numbers[::step], ["emb." if number < 0 else str(number) for number in numbers[::step]])
        axes.set_xlabel("after layer")
        log_axis(axes, low, high * 1.3)
        axes.set_ylabel("relative L2")
        return page_svg(figure, key, f"Relative L2 of the hidden state after {len(layers)} layers, log scale")


def series_of(output: str, outputs: Sequence[str]) -> int:
    return min(outputs.index(output), len(MARKERS) - 1)


def _range(errors: Sequence[float | None]) -> tuple[float, float]:
    """Decades around all errors that have a place on a log scale."""
    placed = [error for error in errors if error]
    low, high = min(placed, default=1e-9), max(placed, default=1e-3)
    return 10.0 ** (math.floor(math.log10(low)) - 0.3), 10.0 ** (math.ceil(math.log10(high)) + 0.5)


def _height(error: float | None, low: float, high: float) -> float:
    """Zero lies on the lower edge, what is not finite on the upper one."""
    return high if error is None else max(error, low)


def _usual_tolerance(rows: Sequence[dict[str, Any]]) -> float | None:
    usual = Counter(row["tolerance"] for row in rows if row["tolerance"]).most_common(1)
    return usual[0][0] if usual else None


def _tolerances(axes: Axes, rows: Sequence[dict[str, Any]], places: Sequence[int]) -> None:
    """The usual tolerance as a line, a row's own where it has another."""
    usual = _usual_tolerance(rows)
    if usual is None:
        return
    axes.axhline(usual, color=PAGE.bad, linestyle=(0, (4, 3)), linewidth=1.0, zorder=1)
    own = [i for i, row in enumerate(rows) if row["tolerance"] not in (None, usual)]
    axes.scatter([places[i] for i in own], [rows[i]["tolerance"] for i in own], marker="_", c=PAGE.bad, s=60, zorder=1)
