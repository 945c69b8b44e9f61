"""A result as tables for a terminal: one for each point, and the time by op below it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lat_export.bench.figures import SAMPLES_FOR_P90, SAMPLES_FOR_P99
from lat_export.bench.result import BenchResult, PointResult, Row
from lat_export.bench.subjects.contract import BACK_TO_BACK

COLUMNS = ("subject", "median", "p90", "p99", "tokens/s", "faster", "spread", "over floor", "peak", "above weights")
SHOWN_OPS, SMALLEST_SHARE = 6, 0.01


@dataclass(frozen=True)
class BenchTable:
    """
    Attributes:
        rows: cells under `COLUMNS`; all but the first are numbers.
        notes: lines below.
    """

    title: str
    rows: list[tuple[str, ...]]
    notes: list[str]


def tables(result: BenchResult) -> Iterator[BenchTable]:
    """One for each point, in order."""
    model = f"{result.model['family']}, {result.model['task']}"
    for point in result.points:
        title = f"{model}, {point.point}, {result.settings['threads']} threads"
        yield BenchTable(title, [_cells(row) for row in point.rows], [*_notes(point)])


def closing_lines(result: BenchResult) -> list[str]:
    """What holds for all tables."""
    runs = max((len(row.seconds) for point in result.points for row in point.rows), default=0)
    lines = [f"left out: {name}: {why}" for name, why in result.left_out.items()]
    if runs < SAMPLES_FOR_P90:
        lines.append(f"p90 is stated from {SAMPLES_FOR_P90} rounds, p99 from {SAMPLES_FOR_P99}: --repeat")
    elif runs < SAMPLES_FOR_P99:
        lines.append(f"p99 is stated from {SAMPLES_FOR_P99} rounds: --repeat")
    before, after = (result.surroundings["load_average"][when][0] for when in ("before", "after"))
    lines.append(f"load average {before:.2f} before, {after:.2f} after")
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    if row.latency is None:
        return (row.subject, "error", *[""] * (len(COLUMNS) - 2))
    faster = row.faster_than_baseline
    return (
        row.subject,
        seconds(row.latency.median),
        _or_dash(row.latency.p90, seconds),
        _or_dash(row.latency.p99, seconds),
        _or_dash(row.tokens_per_s, lambda rate: f"{rate:,.0f}"),
        "-" if faster is None else f"{faster.median:.2f} x",
        "-" if faster is None else f"{faster.low:.2f} to {faster.high:.2f}",
        _or_dash(row.over_floor, lambda ratio: f"{ratio:.2f} x"),
        _or_dash(row.peak_bytes, megabytes),
        _or_dash(row.above_weights_bytes, megabytes),
    )


def _or_dash(value: float | None, write: Callable[[float], str]) -> str:
    return "-" if value is None else write(value)


def _notes(point: PointResult) -> Iterator[str]:
    ratio = next((row.faster_than_baseline for row in point.rows if row.faster_than_baseline), None)
    if point.baseline is not None and ratio is not None:
        rounds = max(len(row.seconds) for row in point.rows)
        of = f"median and {ratio.spread} of {rounds} rounds" if rounds > 1 else "in one round, so without a spread"
        yield f"faster: than {point.baseline}, {of}"
    if point.floor is not None:
        floor = point.floor
        yield (
            f"floor: {seconds(floor.seconds)} = {floor.operations / 1e9:,.4g} GFLOP of linear layers, no attention, "
            f"at {floor.operations_per_s / 1e9:,.4g} GFLOP/s (matrix product {' x '.join(map(str, floor.shape))})"
        )
    for row in point.rows:
        if row.error is not None:
            yield f"{row.subject}: error: {row.error}"
        if row.parts:
            yield f"{row.subject}: {_parts(row)}"
        if row.device_bytes:
            memory = ", ".join(f"{name} {megabytes(count)}" for name, count in row.device_bytes.items())
            yield f"{row.subject}: on the GPU: {memory}"
        if row.note is not None:
            yield f"{row.subject}: {row.note}"
        if row.peak_is_of_all and row.error is None:
            yield f"{row.subject}: the peak includes loading: the system does not permit to count it anew"
        if row.ops:
            yield f"{row.subject}: {_ops(row)}"


def _parts(row: Row) -> str:
    """Medians, as "without copies; host to device 12 us, ..., back to back 1.2 ms (833 requests/s)"."""
    medians = {name: statistics.median(values) for name, values in row.parts.items()}
    told = ", ".join(f"{name} {seconds(value)}" for name, value in medians.items())
    return f"without copies; {told} ({1 / medians[BACK_TO_BACK]:,.4g} requests/s)"


def _ops(row: Row) -> str:
    """As "lat::LshCumulation 51.0 % (120 ms), MatMul 40.2 % (95 ms)": `lat` ops always, others while they matter."""
    shown = [
        op
        for index, op in enumerate(row.ops or [])
        if op.op.startswith("lat::") or (index < SHOWN_OPS and op.share >= SMALLEST_SHARE)
    ]
    return ", ".join(f"{op.op} {100 * op.share:.1f} % ({op.ms:,.4g} ms)" for op in shown)


def seconds(value: float) -> str:
    """Three digits, in s, ms or us."""
    if value < 1e-4:
        return f"{value * 1e6:.3g} us"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"
