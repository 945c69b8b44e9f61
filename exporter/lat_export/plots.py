"""How every plot of this project looks: one style, axes on log scales, SVG in which text is text."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Palette:
    """Colours by what they are for."""

    ink: str
    rule: str
    bad: str
    muted: str
    series: tuple[str, ...]


# matplotlib wants colours that it knows: these stand for the page's, which differ between light and dark.
PAGE = Palette("#010203", "#010204", "#010205", "#010206", ("#010211", "#010212", "#010213", "#010214"))
PAGE_COLOURS = {
    PAGE.ink: "currentColor",
    PAGE.rule: "var(--rule)",
    PAGE.bad: "var(--failed)",
    PAGE.muted: "var(--muted)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(PAGE.series, start=1)},
}
# A file of its own has the page's colours for light surroundings, and more series.
FILE = Palette(
    "#1d2126",
    "#dadee3",
    "#b3261e",
    "#5d6670",
    ("#2b5f9e", "#b05a08", "#7448a0", "#0b766b", "#a3366b", "#6b6a1b", "#4a5a6a"),
)
SIZE_INCHES = (5.0, 3.1)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lat-export",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "grid.linewidth": 0.6,
}


@contextmanager
def axes_of(palette: Palette, size_inches: tuple[float, float] = SIZE_INCHES) -> Iterator[tuple[Figure, Axes]]:
    """A figure outside of pyplot's list, in this module's style alone, whatever the user's matplotlibrc says."""
    import matplotlib
    from matplotlib.figure import Figure

    ink: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), palette.ink
    )
    lines: dict[Any, Any] = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), palette.muted)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, **ink, **lines, "grid.color": palette.rule})
        figure = Figure(figsize=size_inches, layout="constrained")
        yield figure, figure.add_subplot()


def token_axis(axes: Axes, places: Sequence[int]) -> None:
    """Powers of two, from the shortest to the longest of `places`."""
    shortest, longest = max(min(places), 1), max(places)
    axes.set_xscale("log", base=2)
    axes.set_xlim(shortest / 1.4, longest * 1.4)
    first, last = math.ceil(math.log2(shortest)), math.floor(math.log2(longest))
    ticks = [2**power for power in range(first, last + 1, max(1, math.ceil((last - first) / 8)))]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Powers of ten as people type them: matplotlib's own labels are formulas."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    powers = range(first, last + 1, max(1, math.ceil((last - first) / 7)))
    axes.set_yticks([10.0**power for power in powers], [f"1e{power}" if power else "1" for power in powers])
    axes.set_yticks([], minor=True)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def page_svg(figure: Figure, key: str, described: str) -> str:
    """One <svg> without anything that only a file of its own needs; its ids begin with `key`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # The style holds for a whole page once it is inside of one; report.css says it for plots.
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    for stand_in, colour in PAGE_COLOURS.items():
        svg = svg.replace(stand_in, colour)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = (
        f'<svg {view[0]} role="img" aria-labelledby="{key}-title">\n<title id="{key}-title">{escape(described)}</title>'
    )
    return head + re.sub(r"\n\s*\n+", "\n", svg[svg.index(">") + 1 :]).rstrip()
