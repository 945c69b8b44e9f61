"""Where the errors of an HTML report lie: by layer, by size, by length."""

from __future__ import annotations

from typing import Any

from lat_export.validation.report import FAILED
from lat_export.validation.report_markup import (
    Content,
    Markup,
    bound,
    counted,
    element,
    folded,
    scientific,
    section,
    table,
    verdict_mark,
)
from lat_export.validation.report_plots import MARKERS, error_plot, histogram_plot, layer_plot, series_of


def layer_section(subjects: list[dict[str, Any]]) -> Content:
    parts = [_layers(subject, index) for index, subject in enumerate(subjects) if subject["layers"]]
    if not parts:
        return ""
    words = (
        "Relative L2 of the hidden state after each layer, for one case. A jump shows the layer that adds the error."
    )
    return section("layers", "Error by layer", element("p", words), element("div", *parts, css="plots"))


def _layers(subject: dict[str, Any], index: int) -> Content:
    rows, before = [], None
    for layer in subject["layers"]:
        error = layer["relative_l2"]
        growth = f"{error / before:.1f}" if before and error is not None else ""
        rows.append(["embeddings" if layer["layer"] < 0 else str(layer["layer"]), scientific(error), growth])
        before = error
    label = f"error by layer, {subject['subject']}"
    numeric = ("after layer", "relative L2", "times the one before")
    small = folded("As a table", table(label, numeric, rows, numeric))
    return _figure(subject["subject"], layer_plot(subject["layers"], f"layers-{index}"), small)


def sampled_section(subjects: list[dict[str, Any]]) -> Content:
    parts = [_sampled(subject) for subject in subjects if subject["sampled"]]
    if not parts:
        return ""
    words = (
        "Hash codes are signs of projections, and near zero two right programs may see them otherwise. Each node is "
        "therefore judged on its own inputs, in the rows that no doubtful sign can reach. The expected error is that "
        "of all rows, if every doubtful sign flipped with one chance in two."
    )
    return section("sampled", "Sampled attention", element("p", words), *parts)


def _sampled(subject: dict[str, Any]) -> Markup:
    numeric = ("rows judged", "relative L2", "tolerance", "doubtful signs", "expected error", "codes flipped")
    rows = [
        [
            node["node"],
            verdict_mark(node["verdict"]),
            f"{100 * node['rows']:.1f} %",
            scientific(node["relative_l2"]),
            bound(node["tolerance"]),
            scientific(node["doubtful_signs"]),
            scientific(node["expected_error"]),
            "" if node["flip_rate"] is None else scientific(node["flip_rate"]),
        ]
        for node in subject["sampled"]
    ]
    label = f"sampled attention, {subject['subject']}"
    return table(label, ("node", "verdict", *numeric), rows, numeric)


def histogram_section(report: dict[str, Any]) -> Content:
    decades = report["histogram_decades"]
    figures: list[Content] = []
    for index, subject in enumerate(report["subjects"]):
        bins = [row for row in subject["rows"] if len(row["histogram"]) == len(decades) + 1]
        lost = len(subject["rows"]) - len(bins)
        note = f"{counted(lost, 'comparison')} without a histogram: not finite, or of another shape." if lost else ""
        if bins:
            plot = histogram_plot(subject["rows"], decades, f"histogram-{index}")
            figures.append(_figure(subject["subject"], plot, note))
    if not figures:
        return ""
    words = (
        "All numbers of all outputs, by how far each is off in terms of its output's root mean square. Relative L2 is "
        "the root mean square of these; its usual tolerance is dashed. Exact numbers are in the leftmost bar."
    )
    return section("histogram", "Distribution of errors", element("p", words), element("div", *figures, css="plots"))


def error_section(subjects: list[dict[str, Any]]) -> Content:
    figures: list[Content] = []
    for index, subject in enumerate(subjects):
        if subject["rows"]:
            outputs = list(dict.fromkeys(row["output"] for row in subject["rows"]))
            plot = error_plot(subject["rows"], outputs, f"errors-{index}")
            figures.append(_figure(subject["subject"], plot, _legend(subject["rows"], outputs)))
    if not figures:
        return ""
    words = (
        "One mark for each output of each case; the tolerance is dashed, and a short dash where a comparison has its "
        "own. Exact agreement lies on the lower edge, an output that is not finite on the upper one."
    )
    return section("errors", "Relative L2 and tolerance", element("p", words), element("div", *figures, css="plots"))


def _figure(title: str, plot: str, *below: Content) -> Markup:
    return element("figure", element("figcaption", title), Markup(plot), *below)


def _legend(rows: list[dict[str, Any]], outputs: list[str]) -> Markup:
    names: dict[int, list[str]] = {}
    for output in outputs:
        names.setdefault(series_of(output, outputs), []).append(output)
    marks: list[Content] = []
    for series, own in names.items():
        sign = Markup(f'<span class="series-{series + 1}" aria-hidden="true">{MARKERS[series][1]}</span> ')
        marks.append(element("li", sign, own[0] if len(own) == 1 else counted(len(own), "other output")))
    if any(row["verdict"] == FAILED for row in rows):
        marks.append(element("li", Markup('<span class="failed" aria-hidden="true">\u25cf</span> '), "failed, in red"))
    return element("ul", *marks, css="legend")
