"""validate: artifacts + golden tensors -> report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lat_export import native
from lat_export.digest import file_sha256
from lat_export.environment import environment
from lat_export.stages.validate_sampled import check_sampled_nodes
from lat_export.targets import PORTABLE_MODEL, BuildPlan, Subject, Target
from lat_export.types import Signature
from lat_export.validation.check import Judge, check_subject
from lat_export.validation.golden import Golden
from lat_export.validation.report import Provenance, Report


def validate(
    folder: Path,
    target: Target,
    plan: BuildPlan,
    forms: dict[str, str],
    golden: Golden,
    scratch: Path,
    judge: Judge,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare every artifact of a bundle with its golden tensors.

    Args:
        forms: what runs each `lat` node of the target's artifact, as its builder told.
        tell: called with the name of each artifact before it runs, and with progress.
    """
    subjects = target.subjects(folder, golden.signature, plan, scratch)
    report = validate_subjects(subjects, sorted(folder.glob("model*")), golden, judge, tell)
    # An engine does not tell; what its builder found in it cannot change.
    ran = (replace(it, forms=forms) if it.rows and not it.forms else it for it in report.subjects)
    report = replace(report, subjects=tuple(ran))
    return with_sampled_nodes(report, folder / PORTABLE_MODEL, golden, judge)


def with_sampled_nodes(
    report: Report, model: Path, golden: Golden, judge: Judge, names: dict[str, str] | None = None
) -> Report:
    """The report, its first artifact also judged by its nodes of sampled attention.

    Args:
        model: the ONNX file of that artifact.
        names: what it calls the golden's inputs, where it is otherwise.
    """
    sampled = check_sampled_nodes(model, golden, judge, names)
    first = replace(report.subjects[0], sampled=sampled)
    return replace(report, subjects=(first, *report.subjects[1:]))


def validate_subjects(
    subjects: list[Subject],
    files: list[Path],
    golden: Golden,
    judge: Judge,
    tell: Callable[[str], None] = lambda _: None,
    signature: Signature | None = None,
) -> Report:
    """Compare any artifacts with golden tensors.

    Args:
        files: those that the artifacts are made of.
        signature: what the artifacts can be asked for, where it is less than the golden has.
    """
    reports = []
    for subject in subjects:
        tell(subject.name)
        reports.append(check_subject(subject, golden, signature or golden.signature, judge, tell))
    provenance = Provenance(
        environment={**environment(), "native ops": native.describe()},
        files={path.name: file_sha256(path) for path in files},
        golden=golden.provenance(),
        tolerances=judge.tolerances.to_json(),
        precision=judge.precision,
    )
    return Report(tuple(reports), provenance)
