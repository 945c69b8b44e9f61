"""What the processes of one point told -> its rows: figures, ratios to the baseline and to the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lat_export.bench.figures import latency, paired_ratio
from lat_export.bench.op_times import OpTime
from lat_export.bench.result import Floor, PointResult, Row
from lat_export.bench.rounds import Measured
from lat_export.bench.sweep import Point


def compare(
    point: Point,
    measured: Sequence[Measured],
    floor: Floor | None,
    baseline: str | None,
    pytorch: Sequence[str],
    on_gpu: Sequence[str] = (),
) -> PointResult:
    """
    Args:
        baseline: the subject that the user named; None for the fastest of `pytorch`, else the first that was measured.
        pytorch: subjects that run in PyTorch.
        on_gpu: subjects that run on a GPU.
    """
    whole = {one.name: one for one in measured if one.error is None}
    if baseline is None:
        usual = [name for name in pytorch if name in whole]
        fastest = min(usual, key=lambda name: latency(whole[name].seconds).median, default=None)
        baseline = fastest or next(iter(whole), None)
    reference = whole.get(baseline or "")
    rows = tuple(_row(point, one, reference, None if one.name in on_gpu else floor) for one in measured)
    return PointResult(point, reference.name if reference else None, floor, rows)


def _row(point: Point, one: Measured, baseline: Measured | None, floor: Floor | None) -> Row:
    if one.error is not None:
        return Row(one.name, error=one.error)
    figures = latency(one.seconds)
    loaded, memory = one.opened["memory"], one.memory
    notes = [one.opened["note"], one.op_times_error and f"no time by op: {one.op_times_error}"]
    return Row(
        one.name,
        seconds=one.seconds,
        parts={name: [run[name] for run in one.parts] for name in (one.parts[0] if one.parts else ())},
        latency=figures,
        tokens_per_s=point.all_tokens / figures.median,
        faster_than_baseline=paired_ratio(baseline.seconds, one.seconds) if baseline else None,
        over_floor=figures.median / floor.seconds if floor else None,
        load_s=one.opened["load_s"],
        warm_up_s=one.warm_up_s,
        peak_bytes=memory["peak"] if memory else None,
        above_weights_bytes=above_weights(loaded, memory),
        peak_is_of_all=not one.peak_was_reset,
        device_bytes=one.device_bytes,
        relative_l2_to_baseline=distance(one.sample, baseline.sample) if baseline else None,
        ops=None if one.op_times is None else [OpTime(**time) for time in one.op_times],
        note="; ".join(note for note in notes if note) or None,
    )


def above_weights(loaded: Mapping[str, int] | None, after: Mapping[str, int] | None) -> int | None:
    """Bytes of anonymous memory at the peak above those after loading. Files' pages, once mapped in, stay."""
    if loaded is None or after is None:
        return None
    of_files = after["resident"] - after["anonymous"]
    return max(0, after["peak"] - of_files - loaded["anonymous"])


def distance(sample: Mapping[str, Any] | None, reference: Mapping[str, Any] | None) -> float | None:
    """Relative L2 of two samples of outputs; None where they are not of the same shape, or not finite."""
    if sample is None or reference is None or sample["shape"] != reference["shape"]:
        return None
    pairs = list(zip(sample["values"], reference["values"], strict=True))
    size = math.sqrt(sum(other**2 for _, other in pairs))
    found = math.sqrt(sum((one - other) ** 2 for one, other in pairs)) / (size or 1.0)
    return found if math.isfinite(found) else None
