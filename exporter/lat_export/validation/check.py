"""Runs an artifact over golden cases and judges every output."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

import numpy as np

from lat_export.errors import LatExportError, MissingError, first_line
from lat_export.profiles import profile_holding
from lat_export.types import Range, Signature, size_with_globals
from lat_export.validation.cases import SEED
from lat_export.validation.compare import Difference, count_not_finite, difference, not_comparable
from lat_export.validation.golden import GoldenCase, take_rows, whole_shape
from lat_export.validation.report import FAILED, PASSED, CaseFigures, Repeated, Row, SubjectReport
from lat_export.validation.task_figures import task_figures
from lat_export.validation.tolerance import FEW_NUMBERS, FLIP_MARGIN, Tolerances

Arrays = dict[str, np.ndarray[Any, Any]]
Run = Callable[[Arrays], Arrays]


class BuiltFor(Protocol):
    """What the artifact was built for."""

    @property
    def profiles(self) -> Sequence[dict[str, Range]]: ...
    @property
    def max_global(self) -> int | None: ...


class Checkable(Protocol):
    """An artifact that can be opened for a run; `lat_export.targets.Subject` is one."""

    @property
    def name(self) -> str: ...
    @property
    def plan(self) -> BuiltFor: ...
    @property
    def if_not_run(self) -> str: ...
    @property
    def open(self) -> Callable[[], AbstractContextManager[Any]]: ...


class Cases(Sized, Iterable[GoldenCase], Protocol):
    """Golden cases, read one by one; a `Golden` is such."""


@dataclass(frozen=True)
class Judge:
    """By what an artifact is judged.

    Attributes:
        ops: `lat` ops that the model has.
        repeat: how often each case runs; more than once also demands the same bits.
    """

    tolerances: Tolerances = field(default_factory=Tolerances)
    target: str = "onnx"
    precision: str = "fp32"
    ops: tuple[str, ...] = ()
    repeat: int = 1


def check_subject(
    subject: Checkable,
    goldens: Cases,
    signature: Signature,
    judge: Judge = Judge(),
    tell: Callable[[str], None] = lambda _: None,
) -> SubjectReport:
    """Compare every output of every golden case within the subject's limits.

    An artifact that cannot run on this machine gives a report without rows, never a pass.

    Args:
        tell: called with a line of progress now and then.
    """
    rows: list[Row] = []
    left_out = 0
    figures: list[CaseFigures] = []
    digests: dict[int, str] = {}
    started = told = time.perf_counter()
    usual = usual_sizes(goldens)
    try:
        with subject.open() as run:
            for index, golden in enumerate(goldens):
                if not within(golden, signature, subject.plan):
                    left_out += 1
                    continue
                try:
                    outputs = run(golden.inputs)
                except LatExportError:  # of ours: it is not the engine's answer
                    raise
                except Exception as error:  # whatever an engine raises, it did not compute what PyTorch computes
                    rows += _rows_of_a_crash(golden, signature, judge, error)
                    continue
                digests[index] = _digest(outputs)
                outputs = without_empty_globals(outputs, signature, signature.most_globals(golden.inputs))
                found = judged(golden, outputs, signature, judge, usual)
                rows += found
                if all(isfinite(row.relative_l2) for row in found):
                    figures += _figures(golden, take_rows(outputs, golden.rows, signature), signature)
                if time.perf_counter() - told > SECONDS_BETWEEN_LINES:
                    told = time.perf_counter()
                    tell(f"{subject.name}: case {index + 1} of {len(goldens)}")
            repeated = _repeat(run, goldens, digests, judge.repeat)
            forms = dict(getattr(run, "forms", {})) if rows else {}
    except MissingError as error:
        return SubjectReport(subject.name, (), remark=f"{subject.if_not_run}: {error.what}")
    return SubjectReport(
        subject.name,
        tuple(rows),
        left_out=left_out,
        remark="" if rows else "no case lies within what it was built for",
        seconds=round(time.perf_counter() - started, 3),
        figures=tuple(figures),
        repeated=repeated,
        forms=forms,
    )


SECONDS_BETWEEN_LINES = 5.0


def judged(
    golden: GoldenCase, outputs: Arrays, signature: Signature, judge: Judge, usual: dict[str, float]
) -> list[Row]:
    """A row for every output of a case.

    Args:
        outputs: in the shapes that PyTorch gives.
        usual: from `usual_sizes` of all cases.
    """
    return [_row(golden, spec.name, outputs[spec.name], signature, judge, usual) for spec in signature.outputs]


def within(golden: GoldenCase, signature: Signature, limits: BuiltFor) -> bool:
    """Whether a case's sizes and global tokens are ones that the artifact was built for."""
    if profile_holding(limits.profiles, signature.sizes_of(golden.inputs)) is None:
        return False
    return limits.max_global is None or signature.most_globals(golden.inputs) <= limits.max_global


def without_empty_globals(outputs: Arrays, signature: Signature, most_globals: int) -> Arrays:
    """Engines have as many columns of globals as they were built for; those beyond the batch's own must be zero."""
    trimmed = dict(outputs)
    for spec in signature.outputs:
        wanted = size_with_globals(spec.dims[-1], most_globals) if spec.dims else 0
        array = outputs[spec.name]
        if not isinstance(wanted, int) or wanted == spec.dims[-1] or array.shape[-1] <= wanted:
            continue
        empty = slice(most_globals, most_globals + array.shape[-1] - wanted)
        if not array[..., empty].any():
            trimmed[spec.name] = np.delete(array, empty, axis=-1)
    return trimmed


def _digest(outputs: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(outputs):
        digest.update(name.encode() + str(outputs[name].shape).encode())
        digest.update(np.ascontiguousarray(outputs[name]).tobytes())
    return digest.hexdigest()


def _repeat(run: Run, goldens: Cases, digests: dict[int, str], times: int) -> Repeated | None:
    """Every case again, in another order each time, so that other shapes come before it."""
    if times < 2:
        return None
    changed: set[str] = set()
    shuffled = random.Random(SEED)
    for _ in range(times - 1):
        # Goldens are read in their order, to hold one case at a time; what comes between is drawn.
        held: list[tuple[int, GoldenCase]] = []
        for index, golden in enumerate(goldens):
            if index not in digests:
                continue
            held.append((index, golden))
            if len(held) > shuffled.randint(0, 2):
                changed |= _changed(run, held, digests, shuffled)
                held = []
        changed |= _changed(run, held, digests, shuffled)
    return Repeated(times, tuple(sorted(changed)))


def _changed(
    run: Run, held: list[tuple[int, GoldenCase]], digests: dict[int, str], shuffled: random.Random
) -> set[str]:
    """Names of the cases among `held` that give other bits than at first."""
    order = shuffled.sample(held, len(held))
    return {golden.case.name for index, golden in order if _digest(run(golden.inputs)) != digests[index]}


def _rows_of_a_crash(golden: GoldenCase, signature: Signature, judge: Judge, error: Exception) -> list[Row]:
    """One failed row an output."""
    return [
        Row(
            case=golden.case.name,
            output=spec.name,
            **vars(not_comparable()),
            tolerance=judge.tolerances.find(judge.target, judge.precision, judge.ops, spec.name).relative_l2,
            verdict=FAILED,
            reference=golden.computed_by,
            remark=f"the run failed: {first_line(error)}",
        )
        for spec in signature.outputs
    ]


def usual_sizes(goldens: Iterable[GoldenCase]) -> dict[str, float]:
    """Root mean square of every output's numbers over all cases, by name."""
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    for golden in goldens:
        for name, array in golden.outputs.items():
            squares[name] = squares.get(name, 0.0) + _norm(array) ** 2
            counts[name] = counts.get(name, 0) + array.size
    return {name: (squares[name] / max(1, counts[name])) ** 0.5 for name in squares}


def usual_norm(reference: np.ndarray[Any, Any], usual_size: float) -> float:
    """Of an output of a few numbers; 0 for others, which are measured by their own norm."""
    return usual_size * reference.size**0.5 if reference.size <= FEW_NUMBERS else 0.0


def _figures(golden: GoldenCase, outputs: Arrays, signature: Signature) -> list[CaseFigures]:
    keep = golden.inputs["attention_mask"].astype(bool)
    if golden.rows is not None:
        keep = keep[..., golden.rows]
    found = task_figures(signature.task, outputs, golden.outputs, keep)
    return [CaseFigures(golden.case.name, found)] if found else []


def tolerance_of(golden: GoldenCase, name: str, judge: Judge) -> tuple[float, str]:
    """The largest relative L2 error of an output of a case that passes; and a remark, where the table is not all."""
    tolerance = judge.tolerances.find(judge.target, judge.precision, judge.ops, name).relative_l2
    if golden.noise.get(name, 0.0) > tolerance:
        return FLIP_MARGIN * golden.noise[name], "hash codes may flip"
    return tolerance, ""


def _row(
    golden: GoldenCase,
    name: str,
    output: np.ndarray[Any, Any],
    signature: Signature,
    judge: Judge,
    usual: dict[str, float],
) -> Row:
    tolerance, remark = tolerance_of(golden, name, judge)
    found, problem = _difference(golden, name, output, signature, judge, usual)
    if not problem and _norm(golden.outputs[name]) < usual_norm(golden.outputs[name], usual[name]):
        remark = remark or "against the usual norm of this output"
    return Row(
        case=golden.case.name,
        output=name,
        **vars(found),
        tolerance=tolerance,
        verdict=PASSED if not problem and found.relative_l2 <= tolerance else FAILED,
        rows="all" if golden.rows is None else len(golden.rows),
        reference=golden.computed_by,
        remark=problem or remark,
    )


def _difference(
    golden: GoldenCase,
    name: str,
    output: np.ndarray[Any, Any],
    signature: Signature,
    judge: Judge,
    usual: dict[str, float],
) -> tuple[Difference, str]:
    """And what forbids a comparison, if anything does: all rows count there, not only those that the golden keeps."""
    reference, shape = golden.outputs[name], whole_shape(golden, name, signature)
    (dtype,) = (spec.dtype for spec in signature.outputs if spec.name == name)
    if output.shape != shape:
        return not_comparable(), f"shape {output.shape} instead of {shape}"
    if judge.precision == "fp32" and str(output.dtype) != dtype:
        return not_comparable(), f"dtype {output.dtype} instead of {dtype}"
    nan, inf = count_not_finite(output)
    if nan or inf:
        return not_comparable(nan, inf), "NaN or Inf"
    kept = take_rows({name: output}, golden.rows, signature)[name]
    return difference(kept, reference, usual_norm(reference, usual[name])), ""


def _norm(array: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))
