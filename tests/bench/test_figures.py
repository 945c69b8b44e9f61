"""Medians, percentiles, paired ratios: against numbers that are known."""

from __future__ import annotations

import pytest

from lat_export.bench.compare import above_weights, distance
from lat_export.bench.figures import latency, paired_ratio, percentile


def test_median_and_percentiles_of_known_numbers() -> None:
    hundred = [float(number) for number in range(1, 101)]
    found = latency(list(reversed(hundred)))
    assert found.median == 50.5
    assert found.p90 == pytest.approx(90.1)
    assert found.p99 == pytest.approx(99.01)
    assert percentile([3.0], 90) == 3.0
    assert percentile([4.0, 2.0], 50) == 3.0


def test_percentiles_are_not_stated_of_few_samples() -> None:
    assert latency([1.0] * 9).p90 is None
    assert latency([1.0] * 10).p90 == 1.0
    assert latency([1.0] * 99).p99 is None
    assert latency([1.0] * 100).p99 == 1.0


def test_ratios_are_taken_round_by_round() -> None:
    """A round in which all are three times as slow does not show."""
    ratio = paired_ratio([2.0, 6.0, 2.2], [1.0, 3.0, 1.0])
    assert (ratio.median, ratio.low, ratio.high, ratio.spread) == (2.0, 2.0, 2.2, "min to max")


def test_the_spread_of_many_rounds_leaves_outliers_out() -> None:
    ratio = paired_ratio([*range(1, 11), 1000.0], [1.0] * 11)
    assert (ratio.median, ratio.low, ratio.high, ratio.spread) == (6.0, 2.0, 10.0, "p10 to p90")


def test_memory_above_the_weights_leaves_files_out() -> None:
    """100 of anonymous memory after loading; at the peak 300, and 50 of a library that was mapped in meanwhile."""
    loaded = {"resident": 140, "peak": 500, "anonymous": 100}
    after = {"resident": 240, "peak": 390, "anonymous": 150}
    assert above_weights(loaded, after) == 200
    assert above_weights(None, after) is None


def test_distance_of_outputs() -> None:
    reference = {"shape": [1, 2], "values": [3.0, 4.0]}
    assert distance(reference, reference) == 0.0
    assert distance({"shape": [1, 2], "values": [3.0, 4.5]}, reference) == pytest.approx(0.1)
    assert distance({"shape": [2, 1], "values": [3.0, 4.0]}, reference) is None
    assert distance({"shape": [1, 2], "values": [3.0, float("nan")]}, reference) is None
