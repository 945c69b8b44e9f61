"""Lockstep: the order of runs, and what becomes of a subject that fails."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from lat_export.bench.child import ChildError
from lat_export.bench.rounds import Lockstep, Plan, usual_repeat


class Fake:
    """Answers at once, and writes down what it was asked."""

    def __init__(self, name: str, seen: list[str], fails_at: str | None = None, after: int = 0) -> None:
        self.name = name
        self._seen, self._fails_at, self._after = seen, fails_at, after

    def opened(self) -> dict[str, Any]:
        return self.ask("open")

    def ask(self, request: str) -> dict[str, Any]:
        self._seen.append(f"{self.name} {request}")
        if request == self._fails_at:
            if self._after == 0:
                raise ChildError("it broke")
            self._after -= 1
        answers: dict[str, dict[str, Any]] = {
            "open": {"note": None},
            "warm_up": {"seconds": 1.0, "sample": None},
            "reset_peak": {"reset": True},
            "run": {"seconds": 0.5, "parts": {"whole request": 0.7}},
            "memory": {"memory": None, "device_bytes": {"weights": 8}},
            "op_times": {"op_times": None},
        }
        return answers[request]

    def settle(self) -> None:
        self._seen.append(f"{self.name} settle")

    def close(self) -> None:
        self._seen.append(f"{self.name} close")


def lockstep(seen: list[str], **fakes: dict[str, Any]) -> Lockstep:
    return Lockstep([(name, partial(Fake, name, seen, **how)) for name, how in fakes.items()], lambda _: None)


def test_each_runs_once_in_every_round() -> None:
    seen: list[str] = []
    measured = lockstep(seen, a={}, b={}, c={}).measure(Plan(warm_up=2, repeat=3))
    asked = [entry for entry in seen if not entry.endswith(("settle", "close"))]
    steps = ["open", "warm_up", "warm_up", "reset_peak", "run", "run", "run", "memory", "op_times"]
    assert asked == [f"{name} {step}" for step in steps for name in "abc"]
    assert [one.seconds for one in measured] == [[0.5] * 3] * 3
    assert [one.parts for one in measured] == [[{"whole request": 0.7}] * 3] * 3
    assert [one.device_bytes for one in measured] == [{"weights": 8}] * 3
    # Nobody is asked before the one before is quiet.
    for index, entry in enumerate(seen):
        if not entry.endswith(("settle", "close")):
            assert seen[index + 1] == f"{entry[0]} settle"


@pytest.mark.parametrize("step", ["open", "warm_up", "run"])
def test_one_that_fails_keeps_its_error_and_the_others_go_on(step: str) -> None:
    seen: list[str] = []
    of_b = {"fails_at": step, "after": 1 if step == "run" else 0}
    measured = lockstep(seen, a={}, b=of_b, c={}).measure(Plan(repeat=4))
    assert [one.error for one in measured] == [None, "it broke", None]
    assert [len(one.seconds) for one in measured if one.error is None] == [4, 4]
    assert seen.count("b close") == 1
    assert not [entry for entry in seen[seen.index("b close") + 1 :] if entry.startswith("b")]


def test_figures_stand_where_only_the_time_by_op_fails() -> None:
    (measured,) = lockstep([], a={"fails_at": "op_times"}).measure(Plan(repeat=1))
    assert (measured.error, measured.op_times_error, measured.seconds) == (None, "it broke", [0.5])


def test_usual_repeat_goes_by_the_first_round() -> None:
    assert usual_repeat([0.1, 5.1]) == 3
    assert usual_repeat([4.9, 4.9]) == 5
    assert usual_repeat([0.5, 0.5]) == 10
    assert usual_repeat([1e-4]) == 30
    assert usual_repeat([]) == 30
