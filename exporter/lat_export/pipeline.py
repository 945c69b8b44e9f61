"""The whole way, top to bottom: load, trace, graph, record, lower, build, validate, bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lat_export.errors import InputError, ParityError
from lat_export.stages.build import build
from lat_export.stages.bundle import Bundle, is_bundle, read_bundle, write_bundle
from lat_export.stages.graph import build_graph
from lat_export.stages.load import load
from lat_export.stages.lower import build_plan, lower, named_sizes
from lat_export.stages.record import record
from lat_export.stages.trace import trace
from lat_export.stages.validate import validate
from lat_export.staging import staged
from lat_export.targets import available_target, target_named
from lat_export.types import ModelSpec
from lat_export.validation.golden import Golden
from lat_export.validation.report import Report

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    bundle: Bundle
    report: Report | None


def export(spec: ModelSpec, tell: Tell = lambda _: None) -> Exported:
    """Make a bundle.

    Args:
        tell: called with one line for every stage, notice and warning.
    Raises:
        LatExportError: of the stage that failed; nothing is left at `spec.out`.
    """
    target, notice = available_target(spec.target)
    if notice:
        tell(f"notice: {notice}")
    with staged(spec.out, replaceable=is_bundle, force=spec.force) as staging:
        with _timed("load", tell):
            loaded = load(spec)
        checkpoint = loaded.checkpoint
        for warning in checkpoint.warnings:
            tell(f"warning: {warning}")
        plan = build_plan(spec, checkpoint.signature, target)
        with _timed("trace", tell):
            traced = trace(loaded)
        with _timed("graph", tell):
            graph = build_graph(loaded, traced, staging.folder)
        del traced
        if spec.validate:
            with _timed("record", tell):
                golden = record(loaded, staging.folder, {**plan.sizes, **named_sizes(spec)})
        del loaded  # from here on nothing needs PyTorch's copy of the weights
        with _timed("lower", tell):
            lowered = lower(graph, target, plan, staging.scratch)
        with _timed("build", tell):
            built = build(lowered, target, staging.folder, checkpoint.signature)
        report = None
        if spec.validate:
            with _timed("validate", tell):
                report = validate(staging.folder, target, plan, built.forms, golden, staging.scratch, tell)
            _demand_parity(report)
        with _timed("bundle", tell):
            write_bundle(staging.folder, checkpoint, graph, lowered, target, built, report)
    return Exported(read_bundle(spec.out), report)


def revalidate(folder: Path, tell: Tell = lambda _: None) -> Report:
    """Check a bundle's digests and run its artifacts against its golden tensors again."""
    bundle = read_bundle(folder)
    if bundle.manifest["validated"] is None:
        raise InputError("the bundle holds no golden tensors", got=folder, hint="export it without --no-validate")
    with tempfile.TemporaryDirectory(prefix="lat-export-") as scratch:
        return validate(
            folder,
            target_named(bundle.manifest["target"]),
            bundle.plan,
            bundle.forms,
            Golden(folder),
            Path(scratch),
            tell,
        )


def _demand_parity(report: Report) -> None:
    for subject, row in report.failures():
        raise ParityLostError(subject.subject, row.case, row.output, row.relative_l2, row.tolerance, row.remark, report)


class ParityLostError(ParityError):
    """The first output that is further from PyTorch than its tolerance; `report` has them all."""

    def __init__(
        self, subject: str, case: str, output: str, relative_l2: float, tolerance: float, remark: str, report: Report
    ) -> None:
        self.report = report
        super().__init__(
            f"{subject} does not compute what PyTorch computes",
            got=f"relative L2 {relative_l2:.1e} in {output}" + (f" ({remark})" if remark else ""),
            expected=f"at most {tolerance:.0e}",
            hint="nothing was written; --no-validate writes the bundle for a closer look",
            where={"stage": "validate", "case": case},
        )


@contextmanager
def _timed(stage: str, tell: Tell) -> Iterator[None]:
    started = time.perf_counter()
    tell(f"{stage} ...")
    yield
    tell(f"{stage} done in {time.perf_counter() - started:.1f} s")
