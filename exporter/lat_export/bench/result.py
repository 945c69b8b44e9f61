"""What was measured, and its form in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lat_export.bench.figures import Latency, Ratio
from lat_export.bench.op_times import OpTime
from lat_export.bench.sweep import Point

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Floor:
    """What the model's linear layers take at the rate of onnxruntime's matrix product on this machine.

    Attributes:
        operations: of all linear layers in a run, 2 M K N each; attention is not among them.
        shape: (M, K, N) of the product that was measured.
        product_s: of every round, of one product.
        operations_per_s: at the median.
        seconds: operations / operations_per_s.
    """

    operations: int
    shape: tuple[int, int, int]
    product_s: list[float]
    operations_per_s: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One subject at one point.

    Attributes:
        error: why there are no figures; None where there are.
        seconds: every timed run, in the order of the rounds.
        parts: further seconds of every timed run, by name; of a GPU's subject, whose `seconds` are without copies.
        tokens_per_s: tokens of all rows of the batch, at the median.
        faster_than_baseline: seconds of the baseline over its own, round by round: above 1 it is the faster one.
        over_floor: median over the floor's seconds; None for a subject on a GPU, as the floor is the CPU's.
        load_s: until it was ready to run.
        warm_up_s: runs before the timed ones; of torch.compile the first one compiles.
        peak_bytes: most memory resident at once in its process during the timed runs, libraries and weights included.
        above_weights_bytes: by how much anonymous memory at that peak was above what it was after loading: weights,
            libraries and files that are mapped in are left out; what torch.compile leaves behind is not.
        peak_is_of_all: the system did not permit to count the peak anew, so it is that of loading and warm-up too.
        device_bytes: memory on the GPU by what it is for; None for a subject on the CPU.
        relative_l2_to_baseline: of some thousand numbers of the first output; None where shapes differ.
        ops: time by op in a further run.
        note: what its figures need said.
    """

    subject: str
    error: str | None = None
    seconds: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    latency: Latency | None = None
    tokens_per_s: float | None = None
    faster_than_baseline: Ratio | None = None
    over_floor: float | None = None
    load_s: float | None = None
    warm_up_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    above_weights_bytes: int | None = None
    peak_is_of_all: bool = False
    device_bytes: dict[str, int] | None = None
    relative_l2_to_baseline: float | None = None
    ops: list[OpTime] | None = None
    note: str | None = None


@dataclass(frozen=True)
class PointResult:
    """All subjects at one point.

    Attributes:
        baseline: what the others are compared with; None where it has no figures.
        floor: None where the product could not be measured.
    """

    point: Point
    baseline: str | None
    floor: Floor | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class BenchResult:
    """A whole run of `lat-export bench`.

    Attributes:
        model: family, task, and numbers of its config.
        subjects: what each is, by name.
        settings: threads, warm-up and so on.
        left_out: why, by name, where no subject was named and one was not measured.
        surroundings: machine, versions, commit, instruction set of the native ops, load average before and after.
    """

    model: dict[str, Any]
    subjects: dict[str, str]
    settings: dict[str, Any]
    left_out: dict[str, str]
    points: tuple[PointResult, ...]
    surroundings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA_VERSION,
            **self.surroundings,
            "model": self.model,
            "settings": self.settings,
            "subjects": self.subjects,
            "left_out": self.left_out,
            "points": [
                {
                    **point.point.to_json(),
                    "baseline": point.baseline,
                    "floor": asdict(point.floor) if point.floor else None,
                    "rows": [asdict(row) for row in point.rows],
                }
                for point in self.points
            ],
        }

    @property
    def is_empty(self) -> bool:
        """Nothing at all could be measured."""
        return all(row.error is not None for point in self.points for row in point.rows)
