"""The pictures of docs/, made from benchmarks/results, each in light and in dark, and an example of a parity report.

python benchmarks/figures.py    writes docs/figures
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tables import MODELS, RESULTS

from lat_export.plots import FILE, Palette, axes_of, token_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
# The dark one has the colours of report.css in dark surroundings.
DARK = Palette("#e4e6e8", "#343a41", "#ff8b80", "#9aa3ad", ("#82b1e8", "#eba35c", "#c0a1e6", "#5cc5b6"))
PALETTES = {"light": FILE, "dark": DARK}
LINES = {"pytorch": "PyTorch", "pytorch-compile": "torch.compile", "onnx": "function bodies", "ort": "native ops"}
MARKERS = dict(zip(LINES, "osD^", strict=True))
SIZE_INCHES = (9.0, 5.6)
COLUMNS = 3


def results() -> dict[str, Any]:
    """Of every full-size model, by the names of `tables.MODELS`."""
    return {name: json.loads((RESULTS / f"bench_{name}.json").read_text()) for name in MODELS}


def digest() -> str:
    """Of what the pictures are made from: it stands in them."""
    return hashlib.sha256(b"".join((RESULTS / f"bench_{name}.json").read_bytes() for name in MODELS)).hexdigest()


def scaling(palette: Palette) -> str:
    """Seconds a run against tokens, a panel for each model on axes of one scale, as SVG."""
    found = results()
    with axes_of(palette, SIZE_INCHES) as (figure, axes):
        axes.remove()
        grid = figure.subplots(-(-len(found) // COLUMNS), COLUMNS, sharex=True, sharey=True)
        for panel, (name, result) in zip(grid.flat, found.items(), strict=True):
            _panel(panel, palette, name, result)
        for panel in grid[-1]:
            panel.set_xlabel("tokens N")
        handles, labels = grid[0, 0].get_legend_handles_labels()  # the first has every subject
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.supylabel("seconds a run, median", fontsize=10)
        buffer = io.StringIO()
        description = f"benchmarks/results, sha256 {digest()}"
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Description": description})
    return buffer.getvalue()


def _panel(axes: Axes, palette: Palette, name: str, result: dict[str, Any]) -> None:
    for index, (subject, label) in enumerate(LINES.items()):
        points = list(_medians(result, subject))
        if points:
            line = {"linewidth": 1.4, "marker": MARKERS[subject], "markersize": 4}
            axes.plot(
                *zip(*points, strict=True), color=palette.series[index], label=label, gid=f"{name}.{subject}", **line
            )
    floor = [(point["tokens"], point["floor"]["seconds"]) for point in result["points"]]
    axes.plot(
        *zip(*floor, strict=True),
        color=palette.muted,
        linestyle=(0, (4, 3)),
        linewidth=1.1,
        label="floor: linear layers",
    )
    token_axis(axes, [point["tokens"] for point in result["points"]])
    axes.set_yscale("log")
    axes.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    axes.set_yticks([], minor=True)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_title(MODELS[name], fontsize=10, loc="left")


def _medians(result: dict[str, Any], subject: str) -> Iterator[tuple[int, float]]:
    for point in result["points"]:
        for row in point["rows"]:
            if row["subject"] == subject and row["latency"]:
                yield point["tokens"], row["latency"]["median"]


def report() -> str:
    """report.html of the first export of docs/index.md."""
    from lat_export.pipeline import export
    from lat_export.stages.bundle import REPORT_PAGE
    from lat_export.types import ModelSpec

    checkpoint = ROOT / "golden" / "longformer" / "question-answering" / "checkpoint"
    with tempfile.TemporaryDirectory() as folder:
        done = export(ModelSpec(str(checkpoint), "onnx", Path(folder) / "qa"))
        return (done.bundle.folder / REPORT_PAGE).read_text()


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / "report.html").write_text(report())
    for name, palette in PALETTES.items():
        (FIGURES / f"scaling-{name}.svg").write_text(scaling(palette))


if __name__ == "__main__":
    main()
