"""What a validation found, as data: every output of every case of every artifact, with a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

REPORT_VERSION = 1

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Row:
    """One output of one case.

    Attributes:
        rows: how many positions of the sequence were compared: "all" or a count.
        reference: which side computed the reference.
    """

    case: str
    output: str
    max_abs: float
    relative_l2: float
    cosine: float
    tolerance: float
    verdict: str
    rows: str | int = "all"
    reference: str = "transformers"
    remark: str = ""


@dataclass(frozen=True)
class SubjectReport:
    """One artifact.

    Attributes:
        rows: empty where it did not run.
        left_out: cases outside of what the artifact was built for.
        remark: why it did not run.
    """

    subject: str
    rows: tuple[Row, ...]
    left_out: int = 0
    remark: str = ""

    @property
    def verdict(self) -> str:
        if not self.rows:
            return NOT_RUN
        return PASSED if all(row.verdict == PASSED for row in self.rows) else FAILED

    @property
    def worst(self) -> Row | None:
        return max(self.rows, key=lambda row: (row.verdict == FAILED, row.relative_l2), default=None)


@dataclass(frozen=True)
class Report:
    """All artifacts of one bundle.

    Attributes:
        forms: what runs each `lat` node in the target's artifact.
    """

    subjects: tuple[SubjectReport, ...]
    forms: dict[str, str]

    @property
    def parity_lost(self) -> bool:
        return any(subject.verdict == FAILED for subject in self.subjects)

    def failures(self) -> Iterator[tuple[SubjectReport, Row]]:
        for subject in self.subjects:
            for row in subject.rows:
                if row.verdict == FAILED:
                    yield subject, row

    def to_json(self) -> dict[str, Any]:
        """JSON knows no infinity: an error that is no finite number is null."""
        subjects = [{**asdict(subject), "verdict": subject.verdict} for subject in self.subjects]
        for subject in subjects:
            for row in subject["rows"]:
                row.update(
                    {key: None for key, value in row.items() if isinstance(value, float) and not isfinite(value)}
                )
        return {"report": REPORT_VERSION, "forms": self.forms, "subjects": subjects}
