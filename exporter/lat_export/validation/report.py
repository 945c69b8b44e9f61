"""What a validation found, as data: every output of every case of every artifact, with a verdict.

Its JSON form is described by report.schema.json beside this file; `REPORT_VERSION` grows with every change to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from lat_export.validation.compare import HISTOGRAM_DECADES

REPORT_VERSION = 4

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Row:
    """One output of one case; the figures are those of `lat_export.validation.compare.Difference`.

    Attributes:
        rows: how many positions of the sequence were compared: "all" or a count.
        reference: which side computed the reference.
    """

    case: str
    output: str
    max_abs: float
    p99_abs: float
    relative_l2: float
    cosine: float
    max_ulp: float
    nan: int
    inf: int
    histogram: tuple[int, ...]
    tolerance: float
    verdict: str
    rows: str | int = "all"
    reference: str = "transformers"
    remark: str = ""


@dataclass(frozen=True)
class CaseFigures:
    """What users of the task look at, for one case: see `lat_export.validation.task_figures`."""

    case: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Repeated:
    """The same calls again, other shapes in between.

    Attributes:
        times: how often each case ran in all.
        changed: cases that did not give the same bits every time.
    """

    times: int
    changed: tuple[str, ...]


@dataclass(frozen=True)
class SampledNode:
    """One node of sampled attention on its own inputs, from one case: see `lat_export.validation.sampled`.

    Attributes:
        rows: share of the rows that no doubtful sign reaches; only they are judged.
        relative_l2: their error.
        doubtful_signs: share of all signs of projections that float32 programs may see otherwise.
        expected_error: relative L2 over all rows if each of those flipped with one chance in two.
        flip_rate: share of the hash codes that the other side of a search sees otherwise; None without one.
    """

    node: str
    case: str
    rows: float
    relative_l2: float
    doubtful_signs: float
    expected_error: float
    tolerance: float
    verdict: str
    flip_rate: float | None = None


@dataclass(frozen=True)
class LayerError:
    """Relative L2 error of the hidden state after one layer; layer -1 is the embeddings."""

    layer: int
    relative_l2: float


@dataclass(frozen=True)
class SubjectReport:
    """One artifact.

    Attributes:
        rows: empty where it did not run.
        left_out: cases outside of what the artifact was built for.
        remark: why it did not run.
        seconds: how long its cases took.
        figures: the task's own, case by case; they are reported, the numbers are judged.
        repeated: None where it was not asked for.
        layers: the error after each layer for one case, where it was asked for.
        sampled: of each node of sampled attention.
        forms: what ran each `lat` node, by name, as the engine itself told; empty where it did not run.
    """

    subject: str
    rows: tuple[Row, ...]
    left_out: int = 0
    remark: str = ""
    seconds: float = 0.0
    figures: tuple[CaseFigures, ...] = ()
    repeated: Repeated | None = None
    layers: tuple[LayerError, ...] = ()
    sampled: tuple[SampledNode, ...] = ()
    forms: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if not self.rows:
            return NOT_RUN
        steady = self.repeated is None or not self.repeated.changed
        verdicts = {found.verdict for found in self.rows} | {found.verdict for found in self.sampled}
        return PASSED if steady and verdicts == {PASSED} else FAILED

    @property
    def worst(self) -> Row | None:
        return max(self.rows, key=lambda row: (row.verdict == FAILED, row.relative_l2), default=None)


@dataclass(frozen=True)
class Probe:
    """One step of a search: were all values that cross a cut of the graph within the band?"""

    cut: int
    values: tuple[str, ...]
    worst: float
    clean: bool


@dataclass(frozen=True)
class Divergence:
    """Where two sides part.

    Attributes:
        sides: what was compared.
        case: the inputs.
        found: whether their outputs differ at all.
        layer: number of the layer, from 0; None before or after the layers.
        nodes: names of the nodes between the last clean cut and the first one out of the band, "op name" each; one,
            where the sides share every value.
        error_before, error_after: worst relative L2 error on the two cuts.
        runs: how often each side ran.
    """

    sides: tuple[str, str]
    case: str
    found: bool
    band: float
    layer: int | None = None
    nodes: tuple[str, ...] = ()
    error_before: float = 0.0
    error_after: float = 0.0
    runs: int = 0
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """What was compared, where, and with what.

    Attributes:
        environment: machine and versions.
        files: SHA-256 of every artifact by name.
        golden: of the golden tensors: their SHA-256, how many cases, and `origin` of their manifest.
        tolerances: `Tolerances.to_json`.
        precision: of the artifacts, by which their tolerance was chosen.
    """

    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    golden: dict[str, Any] = field(default_factory=dict)
    tolerances: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"


@dataclass(frozen=True)
class Report:
    """All artifacts of one bundle, or one engine that came from elsewhere."""

    subjects: tuple[SubjectReport, ...]
    provenance: Provenance = field(default_factory=Provenance)
    divergence: Divergence | None = None

    @property
    def parity_lost(self) -> bool:
        """Whether an artifact failed, or parted from the side that it was searched against."""
        parted = self.divergence is not None and self.divergence.found
        return parted or any(subject.verdict == FAILED for subject in self.subjects)

    @property
    def verdict(self) -> str:
        """Of all: failed if one failed, passed if all ran and passed."""
        verdicts = {subject.verdict for subject in self.subjects}
        return FAILED if FAILED in verdicts else PASSED if verdicts == {PASSED} else NOT_RUN

    def failures(self) -> Iterator[tuple[SubjectReport, Row]]:
        for subject in self.subjects:
            for row in subject.rows:
                if row.verdict == FAILED:
                    yield subject, row

    def to_json(self) -> dict[str, Any]:
        """JSON knows no infinity: an error that is no finite number is null."""
        data = {
            "report": REPORT_VERSION,
            "verdict": self.verdict,
            **asdict(self.provenance),
            "histogram_decades": list(HISTOGRAM_DECADES),
            "subjects": [{**asdict(subject), "verdict": subject.verdict} for subject in self.subjects],
            "divergence": None if self.divergence is None else asdict(self.divergence),
        }
        plain: dict[str, Any] = _finite(data)
        return plain


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data
