"""The pieces that an HTML report is set from: escaped text, numbers, tables, sections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lat_export.validation.report import FAILED, NOT_RUN, PASSED

SIGNS = {PASSED: "\u2713", FAILED: "\u2715", NOT_RUN: "\u2013"}
NOT_FINITE = "\u221e"
# Everything that XML and HTML forbid, and marks that turn the direction of the text around them.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already; all other text is escaped where it is set."""

    html: str


Content = Markup | str


def join(parts: Iterable[Content], between: str = "") -> Markup:
    return Markup(between.join(html(part) for part in parts))


def html(content: Content) -> str:
    """Whatever a report holds, safe as text and as the value of a quoted attribute."""
    if isinstance(content, Markup):
        return content.html
    return escape(UNPRINTABLE.sub("\ufffd", content), quote=True)


def element(tag: str, *content: Content, css: str = "") -> Markup:
    attribute = f' class="{html(css)}"' if css else ""
    return Markup(f"<{tag}{attribute}>{join(content).html}</{tag}>")


def section(anchor: str, title: str, *content: Content) -> Markup:
    return Markup(f'<section id="{anchor}">\n<h2>{html(title)}</h2>\n{join(content, chr(10)).html}\n</section>')


def folded(summary: str, *content: Content) -> Markup:
    """Hidden until it is opened; printers show it."""
    return Markup(f"<details>\n<summary>{html(summary)}</summary>\n{join(content).html}\n</details>")


def verdict_mark(verdict: str) -> Markup:
    """The verdict as a word, with a sign of its own: colour alone tells nothing to some readers."""
    css = {PASSED: "passed", FAILED: "failed"}.get(verdict, "not-run")
    return Markup(
        f'<span class="verdict {css}"><span aria-hidden="true">{SIGNS.get(verdict, "?")}</span> {html(verdict)}</span>'
    )


def code(text: str) -> Markup:
    return element("code", text)


def table(
    label: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Content]],
    numeric: Sequence[str] = (),
    css: str = "",
    row_css: Sequence[str] = (),
) -> Markup:
    """A table in a box of its own, which scrolls where the page is narrower.

    Args:
        label: what the table holds, for screen readers.
        numeric: columns that are set flush right.
        css: "reflow" sets every row as a block on narrow screens instead of scrolling.
        row_css: one class a row, "" for none.
    """
    kinds = ["number" if column in numeric else "" for column in columns]
    head = "".join(
        f'<th scope="col"{_css(kind)}>{html(column)}</th>' for column, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for index, row in enumerate(rows):
        cells = "".join(
            f'<td data-column="{html(column)}"{_css(kind)}>{html(cell)}</td>'
            for column, kind, cell in zip(columns, kinds, row, strict=True)
        )
        body.append(f"<tr{_css(row_css[index] if row_css else '')}>{cells}</tr>")
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(label)}">\n<table{_css(css)}>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>\n</div>"
    )


def facts(label: str, rows: Iterable[tuple[str, Content]]) -> Markup:
    """Names with what belongs to them."""
    body = "\n".join(f'<tr><th scope="row">{html(name)}</th><td>{html(value)}</td></tr>' for name, value in rows)
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(label)}">\n<table class="facts">\n<tbody>\n'
        f"{body}\n</tbody>\n</table>\n</div>"
    )


def _css(name: str) -> str:
    return f' class="{html(name)}"' if name else ""


def scientific(value: float | None) -> str:
    """Two digits and an exponent; JSON's null is a number that is not finite."""
    if value is None:
        return NOT_FINITE
    return "0" if value == 0 else f"{value:.1e}"


def bound(tolerance: float | None) -> str:
    """A tolerance; null is a user's that has no bound."""
    return "no bound" if tolerance is None else scientific(tolerance).replace(".0e", "e")


def ratio(row: dict[str, Any]) -> float:
    """Relative L2 over its tolerance: above 1 fails."""
    if row["relative_l2"] is None:
        return float("inf")
    return float(row["relative_l2"] / row["tolerance"]) if row["tolerance"] else 0.0


def of_tolerance(row: dict[str, Any]) -> str:
    """As "5.2 %" or "310 times"."""
    if row["tolerance"] is None:
        return "no bound"
    share = ratio(row)
    if share == float("inf"):
        return NOT_FINITE
    if share > 1:
        return f"{share:,.1f} times" if share < 100 else f"{share:,.0f} times"
    return "0 %" if share == 0 else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def counted(count: int, noun: str) -> str:
    """As "1 case" or "3 cases"; every noun of a report takes an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def by_severity(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Failures first, then the ones nearest to their tolerance."""
    return sorted(rows, key=lambda row: (row["verdict"] != FAILED, -ratio(row), -(row["relative_l2"] or 0.0)))
