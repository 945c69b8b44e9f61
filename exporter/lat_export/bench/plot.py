"""Seconds against tokens on log axes: a line for each subject, and the floor, dashed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lat_export.bench.result import BenchResult, PointResult
from lat_export.plots import FILE, axes_of, token_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (7.5, 4.6)
MARKERS = "osDv^PX"
BATCH_STYLES = ("-", (0, (1, 1.2)), (0, (3, 1, 1, 1)), (0, (6, 2)))
FORMATS = (".svg", ".png")
DOTS_PER_INCH = 150


def bench_plot(result: BenchResult, suffix: str) -> bytes:
    """
    Args:
        suffix: of `FORMATS`.
    Returns:
        The file's content. In SVG, each line is a group with the id "subject-NAME" or "floor", of several batches with
        "-batch-B" behind it.
    """
    batches = sorted({point.point.batch for point in result.points})
    names = list(result.subjects)
    with axes_of(FILE, SIZE_INCHES) as (figure, axes):
        heights: list[float] = []
        for place, batch in enumerate(batches):
            points = [point for point in result.points if point.point.batch == batch]
            of_several = f" B={batch}" if len(batches) > 1 else ""
            style = BATCH_STYLES[place % len(BATCH_STYLES)]
            for index, name in enumerate(names):
                line = [(point.point.tokens, _median(point, name)) for point in points]
                heights += [height for _, height in line if not math.isnan(height)]
                axes.plot(
                    *zip(*line, strict=True),
                    color=FILE.series[index % len(FILE.series)],
                    marker=MARKERS[index % len(MARKERS)],
                    linestyle=style,
                    linewidth=1.4,
                    markersize=5,
                    label=name + of_several,
                    gid=_id(f"subject-{name}", of_several),
                )
            floor = [(point.point.tokens, point.floor.seconds) for point in points if point.floor]
            heights += [height for _, height in floor]
            if floor:
                axes.plot(
                    *zip(*floor, strict=True),
                    color=FILE.muted,
                    linestyle=(0, (4, 3)),
                    linewidth=1.1,
                    label=f"floor: linear layers{of_several}",
                    gid=_id("floor", of_several),
                )
        token_axis(axes, [point.point.tokens for point in result.points])
        axes.set_xlabel("tokens N")
        _seconds_axis(axes, heights)
        axes.set_title(_title(result), fontsize=10.5, loc="left")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        buffer = io.BytesIO()
        if suffix == ".svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        else:
            figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
        return buffer.getvalue()


def _title(result: BenchResult) -> str:
    model = f"{result.model['family']}, {result.model['task']}"
    batches = {point.point.batch for point in result.points}
    batch = f", batch {batches.pop()}" if len(batches) == 1 else ""
    return f"{model}{batch}, {result.settings['threads']} threads, {result.surroundings['machine']['processor']}"


def _id(name: str, of_several: str) -> str:
    return name + of_several.replace(" B=", "-batch-")


def _median(point: PointResult, name: str) -> float:
    """NaN, a gap in the line, where there is an error."""
    latency = next(row.latency for row in point.rows if row.subject == name)
    return math.nan if latency is None else latency.median


def _seconds_axis(axes: Axes, heights: Sequence[float]) -> None:
    """1, 2, 5, 10 ... with numbers as people write them."""
    axes.set_yscale("log")
    axes.set_ylabel("seconds a run, median")
    if heights:
        low, high = min(heights) / 1.3, max(heights) * 1.3
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5) if low <= step * 10.0**decade <= high]
        axes.set_ylim(low, high)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
