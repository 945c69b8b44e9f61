"""The comparisons themselves in an HTML report: every figure of every output of every case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lat_export.validation.report import FAILED
from lat_export.validation.report_markup import (
    NOT_FINITE,
    Content,
    Markup,
    bound,
    by_severity,
    counted,
    element,
    folded,
    join,
    of_tolerance,
    scientific,
    section,
    table,
    verdict_mark,
)

# More than these are folded away: of a failure people look at the first ones, of a pass at the worst ones.
SHOWN_FAILURES = 40
SHOWN_WORST = 10

JUDGED = ("relative L2", "tolerance", "of tolerance")
MEASURED = ("max abs", "p99 abs", "cosine", "max ulp", "NaN", "Inf")


def case_section(report: dict[str, Any]) -> Markup:
    """Failures first, then the worst, of every artifact that ran."""
    parts = [_of_subject(subject, report["golden"].get("case_names", [])) for subject in report["subjects"]]
    return section("cases", "Comparisons", *parts)


def _of_subject(subject: dict[str, Any], case_names: Sequence[str]) -> Content:
    title = element("h3", subject["subject"])
    rows = by_severity(subject["rows"])
    if not rows:
        return join([title, element("p", "Not run: there is nothing to compare.", css="not-run")])
    failed = sum(row["verdict"] == FAILED for row in rows)
    shown = min(failed, SHOWN_FAILURES) or SHOWN_WORST
    if failed:
        order = f"{counted(failed, 'failure')} of {len(rows)}, the worst first."
    else:
        order = f"All {len(rows)} passed; the one nearest to its tolerance comes first."
    alike = _same_in_all(rows)
    if alike.get("reference"):
        order += f" The reference is {alike['reference']}."
    if alike.get("compared"):
        order += f" Compared: {alike['compared']}."
    if alike.get("remark"):
        order += f" Of all: {alike['remark']}."
    if any(row["relative_l2"] is None for row in rows):
        order += f" {NOT_FINITE}: no finite difference exists; the remark says why."
    parts: list[Content] = [title, element("p", order), _case_table(subject, rows[:shown], "first rows")]
    rest = rows[shown:]
    if rest:
        more = sum(row["verdict"] == FAILED for row in rest)
        words = f", {more} of them failed" if more else ", all passed"
        parts.append(folded(f"{counted(len(rest), 'more comparison')}{words}", _case_table(subject, rest, "the rest")))
    parts.append(_left_out(subject, case_names))
    return join(parts, "\n")


def _same_in_all(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Columns of words that every row of an artifact has alike, with their word: a sentence says it once."""
    found = {
        "remark": {row["remark"] for row in rows},
        "compared": {_compared(row) for row in rows},
        "reference": {row["reference"] for row in rows},
    }
    return {name: words.pop() for name, words in found.items() if len(words) == 1}


def _case_table(subject: dict[str, Any], rows: Sequence[dict[str, Any]], which: str) -> Markup:
    by_case = {entry["case"]: entry["figures"] for entry in subject["figures"]}
    shares = list(dict.fromkeys(name for figures in by_case.values() for name in figures))
    numeric = (*JUDGED, *MEASURED, *shares)
    columns = ("verdict", "output", "case", *JUDGED, "remark", *MEASURED, *shares, "compared", "reference")
    left = [index for index, name in enumerate(columns) if name not in _same_in_all(subject["rows"])]
    cells = ([*_cells(row), *_shares(by_case.get(row["case"], {}), shares), *_words(row)] for row in rows)
    return table(
        f"{subject['subject']}: comparisons, {which}",
        [columns[index] for index in left],
        ([row[index] for index in left] for row in cells),
        numeric=numeric,
        css="dense",
        row_css=["failed" if row["verdict"] == FAILED else "" for row in rows],
    )


def _cells(row: dict[str, Any]) -> list[Content]:
    return [
        verdict_mark(row["verdict"]),
        row["output"],
        row["case"],
        scientific(row["relative_l2"]),
        bound(row["tolerance"]),
        of_tolerance(row),
        row["remark"],
        scientific(row["max_abs"]),
        scientific(row["p99_abs"]),
        NOT_FINITE if row["cosine"] is None else f"{row['cosine']:.7f}",
        NOT_FINITE if row["max_ulp"] is None else f"{row['max_ulp']:,.0f}",
        f"{row['nan']:,}",
        f"{row['inf']:,}",
    ]


def _shares(figures: dict[str, float], names: Sequence[str]) -> list[str]:
    return [f"{figures[name]:.4f}" if name in figures else "" for name in names]


def _words(row: dict[str, Any]) -> list[Content]:
    return [_compared(row), row["reference"]]


def _compared(row: dict[str, Any]) -> str:
    return "all positions" if row["rows"] == "all" else counted(row["rows"], "position")


def _left_out(subject: dict[str, Any], case_names: Sequence[str]) -> Content:
    """Which cases lie outside of what the artifact was built for."""
    ran = {row["case"] for row in subject["rows"]}
    names = [name for name in case_names if name not in ran]
    if not subject["left_out"]:
        return ""
    title = f"{counted(subject['left_out'], 'case')} left out: outside of what the artifact was built for"
    if len(names) != subject["left_out"]:
        return element("p", f"{title}.")
    return folded(title, element("ul", *(element("li", name) for name in names), css="names"))
