"""Medians, percentiles and ratios of repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Below so many repetitions a percentile is an interpolation between two of the largest, and is not stated.
SAMPLES_FOR_P90 = 10
SAMPLES_FOR_P99 = 100


@dataclass(frozen=True)
class Latency:
    """Seconds of one run.

    Attributes:
        p90, p99: None where there were fewer repetitions than they take.
    """

    median: float
    p90: float | None
    p99: float | None


@dataclass(frozen=True)
class Ratio:
    """Median and spread of ratios that were taken round by round.

    Attributes:
        spread: what low and high are: "min to max" or, of at least `SAMPLES_FOR_P90` rounds, "p10 to p90".
    """

    median: float
    low: float
    high: float
    spread: str


def latency(seconds: Sequence[float]) -> Latency:
    return Latency(
        statistics.median(seconds),
        percentile(seconds, 90) if len(seconds) >= SAMPLES_FOR_P90 else None,
        percentile(seconds, 99) if len(seconds) >= SAMPLES_FOR_P99 else None,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest ranks in proportion, as numpy does it by default."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Of two subjects that ran in the same rounds: what both met in a round does not show in the ratio."""
    ratios = [top / bottom for top, bottom in zip(numerators, denominators, strict=True)]
    if len(ratios) >= SAMPLES_FOR_P90:
        return Ratio(statistics.median(ratios), percentile(ratios, 10), percentile(ratios, 90), "p10 to p90")
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), "min to max")
