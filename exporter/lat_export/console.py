"""How results look in a terminal: data on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from lat_export.doctor import Finding
    from lat_export.errors import LatExportError
    from lat_export.inspection import OnnxFacts
    from lat_export.stages.bundle import Bundle
    from lat_export.validation.report import Report, SubjectReport

# Where stdout is no terminal a table is never squeezed or folded: it is read by programs and pasted into reports.
PIPED_WIDTH = 200
STYLES = {"passed": "green", "failed": "bold red", "not run": "yellow", "missing": "yellow"}


def tell(line: str) -> None:
    """One line of progress, to stderr."""
    print(line, file=sys.stderr, flush=True)


def print_error(error: LatExportError) -> None:
    print(f"error: {error}", file=sys.stderr)


def _out(*parts: Any) -> None:
    from rich.console import Console

    console = Console(
        width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, soft_wrap=False
    )
    for part in parts:
        console.print(part)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[str] = ()) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


def print_report(report: Report) -> None:
    """Every compared output of every artifact, then one line an artifact."""
    for subject in report.subjects:
        if subject.rows:
            _out(f"\n{subject.subject}", _rows(subject))
    _out("", _verdicts(report))


def _rows(subject: SubjectReport) -> Table:
    numeric = ("max abs", "relative L2", "cosine")
    return _table(
        ("output", "case", *numeric, "rows", "reference", "verdict", "remark"),
        (
            (
                row.output,
                row.case,
                f"{row.max_abs:.1e}",
                f"{row.relative_l2:.1e}",
                f"{row.cosine:.7f}",
                str(row.rows),
                row.reference,
                row.verdict,
                row.remark,
            )
            for row in subject.rows
        ),
        numeric,
    )


def _verdicts(report: Report) -> Table:
    return _table(("artifact", "verdict", "remark"), ((s.subject, s.verdict, _remark(s)) for s in report.subjects))


def _remark(subject: SubjectReport) -> str:
    worst = subject.worst
    if worst is None:
        return subject.remark
    left_out = f"; {subject.left_out} cases outside of the profile left out" if subject.left_out else ""
    return (
        f"{len(subject.rows)} comparisons, worst relative L2 {worst.relative_l2:.1e} "
        f"(at most {worst.tolerance:.0e}){left_out}"
    )


def print_search(report: Report) -> None:
    """The error after every layer, and the node at which two sides part."""
    layers = next((subject.layers for subject in report.subjects if subject.layers), ())
    if layers:
        rows = (("embeddings" if at.layer < 0 else str(at.layer), f"{at.relative_l2:.1e}") for at in layers)
        _out("", _table(("after layer", "relative L2"), rows, ("relative L2",)))
    found = report.divergence
    if found is None:
        return
    _out(f"\n{found.sides[0]}\nagainst {found.sides[1]}\n{found.case}, {found.runs} runs of each")
    if not found.found:
        _out(f"no divergence: every output is within {found.band:.0e}")
        return
    where = "outside of the layers" if found.layer is None else f"layer {found.layer}"
    _out(
        f"first divergence: {where}, relative L2 {found.error_after:.1e} (at most {found.band:.0e}) "
        f"after {found.error_before:.1e} before it",
        *(f"  {node}" for node in found.nodes),
    )


def print_bundle(bundle: Bundle) -> None:
    """Files with sizes, and which form runs the attention."""
    manifest = bundle.manifest
    _out(
        f"\n{bundle.folder}: {manifest['signature']['family']}, {manifest['signature']['task']}, "
        f"{manifest['target']}, {manifest['precision']}",
        _table(
            ("file", "size", "role"),
            ((name, size(entry["bytes"]), entry["role"]) for name, entry in manifest["files"].items()),
            ("size",),
        ),
    )
    _out(f"\nattention: {describe_forms(bundle.forms)}")
    sizes = manifest["plan"]["sizes"]
    if sizes:
        ranges = ", ".join(f"{dim} {text}" for dim, text in sizes.items())
        bound = manifest["plan"]["max_global"]
        _out(f"engine built for: {ranges}" + (f", at most {bound} global tokens a row" if bound is not None else ""))


def describe_forms(forms: dict[str, str]) -> str:
    """As "6 lat nodes: 6 body"."""
    counts = Counter(forms.values())
    return f"{len(forms)} lat nodes: " + ", ".join(f"{count} {form}" for form, count in counts.items())


def print_onnx(facts: OnnxFacts) -> None:
    _out(
        f"\n{facts.path.name}: {facts.nodes} nodes, {facts.parameters:,} parameters "
        f"({size(facts.parameter_bytes)}), {size(facts.file_bytes)} on disk, opsets "
        + ", ".join(f"{domain or 'onnx'} {version}" for domain, version in facts.opsets.items()),
        f"dynamic axes: {', '.join(facts.dynamic_axes) or 'none'}\n",
        _table(("tensor", "type"), [*facts.inputs.items(), *facts.outputs.items()]),
        "",
        _table(("op", "nodes"), ((op, str(count)) for op, count in facts.ops.items()), ("nodes",)),
    )


def print_lat_nodes(facts: OnnxFacts, forms: dict[str, str]) -> None:
    def form(name: str, node: dict[str, Any]) -> str:
        return forms.get(name, "body" if node["body"] else "native or plugin only: the file has no body")

    hidden = {"op", "body", "plugin_namespace", "plugin_version"}
    _out(
        "",
        _table(
            ("lat node", "runs as", "attributes"),
            (
                (name, form(name, node), ", ".join(f"{k}={v:.6g}" for k, v in node.items() if k not in hidden))
                for name, node in facts.lat_nodes.items()
            ),
        ),
    )


def print_findings(findings: list[Finding]) -> None:
    _out(
        _table(
            ("part", "state", "enables"),
            ((finding.part, finding.state, finding.enables) for finding in findings),
        )
    )
    lacking = [finding for finding in findings if finding.advice]
    if lacking:
        _out("", "to get what is missing:", *(f"  {finding.part}: {finding.advice}" for finding in lacking))


def print_answer(found: dict[str, Any]) -> None:
    """Whatever a task answers: ranked rows as tables, a choice as a line, tensors by their shape."""
    for name, value in found.items():
        ranked = value if name == "masks" else [value]
        if name in ("labels", "entities", "answers", "masks"):
            for rows in ranked:
                columns = tuple(rows[0]) if rows else ("nothing found",)
                _out(_table(columns, ([_cell(row[column]) for column in columns] for row in rows)))
        elif name in ("choice", "index", "scores"):
            _out(f"{name}: {value if name != 'scores' else ', '.join(_cell(score) for score in value)}")
        else:
            shape = f"{len(value)} x {len(value[0])}" if isinstance(value[0], list) else f"{len(value)}"
            _out(f"{name}: {shape} numbers; --json prints them")


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def size(count: int) -> str:
    """Bytes as people read them."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
