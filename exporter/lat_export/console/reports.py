"""Reports of a validation, and of a search for the first node that parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lat_export.console.terminal import fits, out, table
from lat_export.types import NATIVE

if TYPE_CHECKING:
    from rich.table import Table

    from lat_export.validation.report import Report, Row, SubjectReport

# Longer tables show their failures and the worst of the rest.
MANY_ROWS, WORST_ROWS = 40, 10


def print_report(report: Report, rest: str = "report.json has all") -> None:
    """Every compared output of every artifact, failures first, then one line an artifact.

    Args:
        rest: where to find the rows of a long table that are not printed.
    """
    for subject in report.subjects:
        if subject.rows:
            shown, left = _shown(subject.rows)
            out(f"\n{subject.subject}", _rows(shown))
            if left:
                out(f"{left} more rows passed: {rest}")
            out(*_task_figures(subject), *_sampled(subject), *_repeated(subject), *_forms(subject))
    out("", _verdicts(report))
    native_ops = report.provenance.environment.get("native ops")
    if native_ops and not any(NATIVE in subject.forms.values() for subject in report.subjects):
        out(f"native ops: {native_ops}")


def _shown(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Failures with the worst first, then the passed rows, of many only the worst; and how many are left."""

    def by_error(row: Row) -> float:
        return -row.relative_l2

    failed = sorted((row for row in rows if row.verdict == "failed"), key=by_error)
    passed = [row for row in rows if row.verdict != "failed"]
    if len(rows) <= MANY_ROWS:
        return [*failed, *passed], 0
    worst = sorted(passed, key=by_error)[:WORST_ROWS]
    return [*failed, *worst], len(passed) - len(worst)


def _rows(rows: Sequence[Row]) -> Table:
    """With all figures, or without the two that people miss least where the terminal is too narrow."""
    wide = _row_table(rows, ("max abs", "p99 abs", "relative L2", "cosine", "max ulp"))
    return wide if fits(wide) else _row_table(rows, ("max abs", "relative L2", "cosine"))


def _row_table(rows: Sequence[Row], figures: tuple[str, ...]) -> Table:
    def cells(row: Row) -> list[str]:
        written = {
            "max abs": f"{row.max_abs:.1e}",
            "p99 abs": f"{row.p99_abs:.1e}",
            "relative L2": f"{row.relative_l2:.1e}",
            "cosine": f"{row.cosine:.7f}",
            "max ulp": f"{row.max_ulp:,.0f}",
        }
        numbers = [written[name] for name in figures]
        return [row.output, row.case, *numbers, str(row.rows), row.reference, row.verdict, row.remark]

    columns = ("output", "case", *figures, "rows", "reference", "verdict", "remark")
    return table(columns, map(cells, rows), figures)


def _task_figures(subject: SubjectReport) -> Iterator[str]:
    """As "span agreement: at least 0.9900 in every case"."""
    found: dict[str, list[float]] = {}
    for case in subject.figures:
        for name, value in case.figures.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        yield f"{name}: at least {min(values):.4f} in every case"


def _sampled(subject: SubjectReport) -> Iterator[str]:
    """One line for all nodes of sampled attention, and one for each that fails."""
    nodes = subject.sampled
    if not nodes:
        return
    rows, error = min(node.rows for node in nodes), max(node.relative_l2 for node in nodes)
    doubt = max(node.doubtful_signs for node in nodes)
    yield (
        f"{len(nodes)} nodes of sampled attention on their own inputs: relative L2 {error:.1e} in the rows that no "
        f"doubtful sign reaches, {100 * rows:.1f} % or more; at most {doubt:.0e} of the signs are in doubt"
    )
    flips = [node.flip_rate for node in nodes if node.flip_rate is not None]
    if flips:
        yield f"hash codes that the other side sees otherwise: at most {max(flips):.0e} in a node"
    yield from (
        f"  {node.node}: {node.relative_l2:.1e} (at most {node.tolerance:.0e})"
        for node in nodes
        if node.verdict == "failed"
    )


def _repeated(subject: SubjectReport) -> Iterator[str]:
    again = subject.repeated
    if again is None:
        return
    if not again.changed:
        yield f"{again.times} runs of every case: the same bits"
    else:
        yield f"{again.times} runs of every case: other bits in"
        yield from (f"  {case}" for case in again.changed)


def _forms(subject: SubjectReport) -> Iterator[str]:
    """As "6 lat nodes: 6 ran as native"; where some ran otherwise than others, those by name."""
    counts = Counter(subject.forms.values())
    if counts:
        yield f"{len(subject.forms)} lat nodes: " + ", ".join(f"{n} ran as {form}" for form, n in counts.items())
    if len(counts) > 1:
        yield from (f"  {name}: {form}" for name, form in subject.forms.items())


def _verdicts(report: Report) -> Table:
    return table(("artifact", "verdict", "remark"), ((s.subject, s.verdict, _remark(s)) for s in report.subjects))


def _remark(subject: SubjectReport) -> str:
    worst = subject.worst
    if worst is None:
        return subject.remark
    left_out = f"; {subject.left_out} cases outside of the profile left out" if subject.left_out else ""
    other_bits = "; other bits when run again" if subject.repeated and subject.repeated.changed else ""
    return (
        f"{len(subject.rows)} comparisons, worst relative L2 {worst.relative_l2:.1e} "
        f"(at most {worst.tolerance:.0e}){left_out}{other_bits}"
    )


def print_search(report: Report) -> None:
    """The error after every layer, and the node at which two sides part."""
    layers = next((subject.layers for subject in report.subjects if subject.layers), ())
    if layers:
        rows = (("embeddings" if at.layer < 0 else str(at.layer), f"{at.relative_l2:.1e}") for at in layers)
        out("", table(("after layer", "relative L2"), rows, ("relative L2",)))
    found = report.divergence
    if found is None:
        return
    out(f"\n{found.sides[0]}\nagainst {found.sides[1]}\n{found.case}, {found.runs} runs of each")
    if not found.found:
        out(f"no divergence: every output is within {found.band:.0e}")
        return
    where = "outside of the layers" if found.layer is None else f"layer {found.layer}"
    out(
        f"first divergence: {where}, relative L2 {found.error_after:.1e} (at most {found.band:.0e}) "
        f"after {found.error_before:.1e} before it",
        *(f"  {node}" for node in found.nodes),
    )
