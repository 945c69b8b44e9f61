"""How results look in a terminal: data on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lat_export.types import NATIVE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lat_export.bench.result import BenchResult
    from lat_export.doctor import Finding
    from lat_export.errors import LatExportError
    from lat_export.inspection import OnnxFacts
    from lat_export.native import Plugins
    from lat_export.stages.bundle import Bundle
    from lat_export.validation.report import Report, Row, SubjectReport

# Where stdout is no terminal a table is never squeezed or folded: it is read by programs and pasted into reports.
PIPED_WIDTH = 200
# Longer tables show their failures and the worst of the rest.
MANY_ROWS, WORST_ROWS = 40, 10
STYLES = {"passed": "green", "failed": "bold red", "not run": "yellow", "missing": "yellow", "not used": "yellow"}


def tell(line: str) -> None:
    """One line of progress, to stderr."""
    print(line, file=sys.stderr, flush=True)


def print_error(error: LatExportError) -> None:
    print(f"error: {error}", file=sys.stderr)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, soft_wrap=False)


def _out(*parts: Any) -> None:
    console = _console()
    for part in parts:
        console.print(part)


def _whole_lines(lines: Iterable[str]) -> None:
    """Longer ones than the terminal is wide are its own business."""
    for line in lines:
        _console().print(line, soft_wrap=True)


def _fits(table: Table) -> bool:
    """Whether a table is set without folding a cell."""
    from rich.measure import Measurement

    console = _console()
    unbounded = console.options.update(width=10 * PIPED_WIDTH)
    return Measurement.get(console, unbounded, table).maximum <= console.width


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[str] = ()) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


def print_report(report: Report, rest: str = "report.json has all") -> None:
    """Every compared output of every artifact, failures first, then one line an artifact.

    Args:
        rest: where to find the rows of a long table that are not printed.
    """
    for subject in report.subjects:
        if subject.rows:
            shown, left = _shown(subject.rows)
            _out(f"\n{subject.subject}", _rows(shown))
            if left:
                _out(f"{left} more rows passed: {rest}")
            _out(*_task_figures(subject), *_sampled(subject), *_repeated(subject), *_forms(subject))
    _out("", _verdicts(report))
    native_ops = report.provenance.environment.get("native ops")
    if native_ops and not any(NATIVE in subject.forms.values() for subject in report.subjects):
        _out(f"native ops: {native_ops}")


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
    return wide if _fits(wide) else _row_table(rows, ("max abs", "relative L2", "cosine"))


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
    return _table(columns, map(cells, rows), figures)


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
    return _table(("artifact", "verdict", "remark"), ((s.subject, s.verdict, _remark(s)) for s in report.subjects))


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


def print_bench(result: BenchResult) -> None:
    """A table for each length and batch."""
    from lat_export.bench.table import COLUMNS, closing_lines, tables

    for table in tables(result):
        _out(f"\n{table.title}", _table(COLUMNS, table.rows, COLUMNS[1:]))
        _whole_lines(table.notes)
    _whole_lines(["", *closing_lines(result)])


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


def print_plugins(found: Plugins | None) -> None:
    """Forms of every op, with or without native ones."""
    from lat_export.native import ADVICE
    from lat_export.ops import OPS

    unusable = found.unusable if found else None

    def forms(name: str) -> tuple[str, str, str, str]:
        stem = OPS[name].stem
        if found is None or unusable or stem not in found.kernels:
            return name, "PyTorch reference, ONNX body", "-", "-"
        native = "onnxruntime (CPU)" if stem in found.onnxruntime else "C ABI only"
        return name, f"PyTorch reference, ONNX body, {native}", "float32, float16, bfloat16", ", ".join(found.archs)

    _out(_table(("op", "forms", "native element types", "instruction sets"), (forms(name) for name in OPS)))
    if found is None:
        _out(f"\nno native ops here: {ADVICE}")
        return
    if unusable:
        _out(f"\n{found.folder}: {unusable}")
        return
    _out(f"\n{found.folder}: {found.compiler}; this processor takes {found.arch}")
    for what, why in found.left_out.items():
        _out(f"left out: {what}: {why}")


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
