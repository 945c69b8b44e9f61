"""validate: artifacts + golden tensors -> report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lat_export.targets import BuildPlan, Target
from lat_export.types import Signature
from lat_export.validation.check import check_subject
from lat_export.validation.golden import Golden
from lat_export.validation.report import Report


def validate(
    folder: Path,
    target: Target,
    plan: BuildPlan,
    forms: dict[str, str],
    golden: Golden,
    scratch: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare every artifact of a bundle with its golden tensors.

    Args:
        tell: called with the name of each artifact before it runs.
    """
    signature: Signature = golden.signature
    reports = []
    for subject in target.subjects(folder, signature, plan, scratch):
        tell(subject.name)
        reports.append(check_subject(subject, golden, signature))
    return Report(tuple(reports), forms)
