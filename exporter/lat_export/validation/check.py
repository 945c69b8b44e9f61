"""Runs an artifact over golden cases and judges every output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from lat_export.errors import MissingError
from lat_export.types import Range, Signature, size_with_globals
from lat_export.validation.compare import Difference, difference
from lat_export.validation.golden import GoldenCase, take_rows
from lat_export.validation.report import FAILED, PASSED, Row, SubjectReport
from lat_export.validation.tolerance import FEW_NUMBERS, FLIP_MARGIN, RELATIVE_L2


class BuiltFor(Protocol):
    """What the artifact was built for."""

    @property
    def sizes(self) -> dict[str, Range]: ...
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


def check_subject(
    subject: Checkable, goldens: Iterable[GoldenCase], signature: Signature, precision: str = "fp32"
) -> SubjectReport:
    """Compare every output of every golden case within the subject's limits.

    An artifact that cannot run on this machine gives a report without rows, never a pass.
    """
    rows: list[Row] = []
    left_out = 0
    scales = _usual_norms(goldens)
    try:
        with subject.open() as run:
            for golden in goldens:
                if not within(golden, signature, subject.plan):
                    left_out += 1
                    continue
                outputs = take_rows(run(golden.inputs), golden.rows, signature)
                outputs = without_empty_globals(outputs, signature, signature.most_globals(golden.inputs))
                rows += [_row(golden, spec.name, outputs[spec.name], precision, scales) for spec in signature.outputs]
    except MissingError as error:
        return SubjectReport(subject.name, (), remark=f"{subject.if_not_run}: {error.what}")
    remark = "" if rows else "no case lies within what it was built for"
    return SubjectReport(subject.name, tuple(rows), left_out, remark)


def within(golden: GoldenCase, signature: Signature, limits: BuiltFor) -> bool:
    """Whether a case's sizes and global tokens are ones that the artifact was built for."""
    for spec in signature.inputs:
        for dim, size in zip(spec.dims, golden.inputs[spec.name].shape, strict=True):
            if isinstance(dim, str) and dim in limits.sizes and size not in limits.sizes[dim]:
                return False
    return limits.max_global is None or signature.most_globals(golden.inputs) <= limits.max_global


def without_empty_globals(
    outputs: dict[str, np.ndarray[Any, Any]], signature: Signature, most_globals: int
) -> dict[str, np.ndarray[Any, Any]]:
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


def _usual_norms(goldens: Iterable[GoldenCase]) -> dict[tuple[str, int], float]:
    """Root mean square norm of every output of a few numbers, by name and size."""
    squares: dict[tuple[str, int], list[float]] = {}
    for golden in goldens:
        for name, array in golden.outputs.items():
            if array.size <= FEW_NUMBERS:
                squares.setdefault((name, array.size), []).append(float((array.astype("float64") ** 2).sum()))
    return {key: (sum(values) / len(values)) ** 0.5 for key, values in squares.items()}


def _row(
    golden: GoldenCase,
    name: str,
    output: np.ndarray[Any, Any],
    precision: str,
    scales: dict[tuple[str, int], float],
) -> Row:
    tolerance, remark = RELATIVE_L2[precision], ""
    if golden.noise.get(name, 0.0) > tolerance:
        tolerance, remark = FLIP_MARGIN * golden.noise[name], "hash codes may flip"
    try:
        reference = golden.outputs[name]
        scale = scales.get((name, reference.size), 0.0)
        found = difference(output, reference, scale)
    except ValueError as error:
        found, remark = Difference(float("inf"), float("inf"), 0.0, finite=False), str(error)
    else:
        remark = remark if found.finite else "NaN or Inf"
        if scale > float((reference.astype("float64") ** 2).sum()) ** 0.5:
            remark = remark or "against the usual norm of this output"
    return Row(
        case=golden.case.name,
        output=name,
        max_abs=found.max_abs,
        relative_l2=found.relative_l2,
        cosine=found.cosine,
        tolerance=tolerance,
        verdict=PASSED if found.finite and found.relative_l2 <= tolerance else FAILED,
        rows="all" if golden.rows is None else len(golden.rows),
        reference=golden.computed_by,
        remark=remark,
    )
