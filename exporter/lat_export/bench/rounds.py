"""All subjects of one point in lockstep: in every round each runs once, so that noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lat_export.bench.child import ChildError

# Repetitions where the user names none: few of long runs, and more of short ones as long as that takes little time.
LONG_RUN_S, OF_LONG_RUNS = 5.0, 3
FEWEST, MOST, WANTED_S = 5, 30, 10.0


class Process(Protocol):
    """What is driven: `lat_export.bench.child.Child`."""

    name: str

    def opened(self) -> dict[str, Any]: ...
    def ask(self, request: str) -> dict[str, Any]: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Measured:
    """What one process told.

    Attributes:
        error: why there is no more; None where there is all.
        opened: the answer after loading.
        warm_up_s, seconds: of every run.
        sample: of the first output.
        peak_was_reset: the peak is that of the timed runs, without loading and warm-up.
        parts: of every timed run, further seconds by name.
        memory: after the timed runs.
        device_bytes: the same on another device, by what it is for.
        op_times: of a further run; an error in that run is `op_times_error`, and the other figures stand.
    """

    name: str
    error: str | None = None
    opened: dict[str, Any] = field(default_factory=dict)
    warm_up_s: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    sample: dict[str, Any] | None = None
    peak_was_reset: bool = False
    memory: dict[str, int] | None = None
    device_bytes: dict[str, int] | None = None
    op_times: list[dict[str, Any]] | None = None
    op_times_error: str | None = None


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        repeat: timed runs of each; None to go by how long they take.
        op_times: whether to ask for them.
    """

    warm_up: int = 1
    repeat: int | None = None
    op_times: bool = True


class Lockstep:
    """Drives all processes of a point; one that fails is left out from then on, and keeps its error."""

    def __init__(self, start: Sequence[tuple[str, Callable[[], Process]]], tell: Callable[[str], None]) -> None:
        """
        Args:
            start: what starts each process, by its name in results.
        """
        self._start, self._tell = start, tell
        self._alive: list[tuple[Process, Measured]] = []
        self._measured: list[Measured] = []

    def measure(self, plan: Plan) -> list[Measured]:
        """One for each subject, in order."""
        try:
            self._open()
            for _ in range(plan.warm_up):
                self._each(_warm_up)
            self._each(_reset_peak)
            self._each(_run)
            for _ in range(self._repeat(plan) - 1):
                self._each(_run)
            self._each(_read_memory)
            if plan.op_times:
                self._tell("  time by op ...")
                self._each(_read_op_times)
        finally:
            for process, _ in self._alive:
                process.close()
        return self._measured

    def _open(self) -> None:
        """One after the other: loading is work too."""
        for name, start in self._start:
            self._tell(f"  {name}: load ...")
            measured = Measured(name)
            self._measured.append(measured)
            process = start()
            try:
                measured.opened = process.opened()
                self._alive.append((process, measured))
                process.settle()
            except ChildError as error:
                self._fail(process, measured, error)
            except BaseException:
                process.close()
                raise

    def _each(self, step: Callable[[Process, Measured], None]) -> None:
        for process, measured in list(self._alive):
            try:
                step(process, measured)
                process.settle()
            except ChildError as error:
                self._fail(process, measured, error)

    def _fail(self, process: Process, measured: Measured, error: ChildError) -> None:
        measured.error = error.what
        self._tell(f"  {measured.name}: {error.what}")
        self._alive = [pair for pair in self._alive if pair[0] is not process]
        process.close()

    def _repeat(self, plan: Plan) -> int:
        repeat = plan.repeat or usual_repeat([measured.seconds[0] for _, measured in self._alive])
        first = ", ".join(f"{measured.name} {measured.seconds[0]:.3g} s" for _, measured in self._alive)
        self._tell(f"  {repeat} rounds; the first: {first}")
        return repeat


def usual_repeat(first_s: Sequence[float]) -> int:
    """How many rounds, by what the first took of each."""
    if max(first_s, default=0.0) > LONG_RUN_S:
        return OF_LONG_RUNS
    return max(FEWEST, min(MOST, int(WANTED_S / max(sum(first_s), 1e-6))))


def _warm_up(process: Process, measured: Measured) -> None:
    answer = process.ask("warm_up")
    measured.warm_up_s.append(answer["seconds"])
    measured.sample = answer["sample"]


def _reset_peak(process: Process, measured: Measured) -> None:
    measured.peak_was_reset = process.ask("reset_peak")["reset"]


def _run(process: Process, measured: Measured) -> None:
    answer = process.ask("run")
    measured.seconds.append(answer["seconds"])
    measured.parts.append(answer["parts"])


def _read_memory(process: Process, measured: Measured) -> None:
    answer = process.ask("memory")
    measured.memory, measured.device_bytes = answer["memory"], answer["device_bytes"]


def _read_op_times(process: Process, measured: Measured) -> None:
    try:
        measured.op_times = process.ask("op_times")["op_times"]
    except ChildError as error:
        measured.op_times_error = error.what
