"""The whole way, top to bottom: load, trace, graph, record, narrow, lower, build, validate, bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lat_export.errors import ParityError
from lat_export.remake import export_command
from lat_export.stages.build import build
from lat_export.stages.bundle import Bundle, is_bundle, read_bundle, write_bundle
from lat_export.stages.float32_parts import named, needed
from lat_export.stages.graph import Graph, build_graph
from lat_export.stages.kit import write_kit
from lat_export.stages.load import load
from lat_export.stages.lower import build_plan, case_profiles, lower, unused_options
from lat_export.stages.narrow import narrow
from lat_export.stages.overflow import KEEP_MORE, check_overflow, near_overflow, overflowing_parts, stored_values
from lat_export.stages.record import record
from lat_export.stages.trace import trace
from lat_export.stages.validate import validate
from lat_export.staging import Staging, staged
from lat_export.targets import Target, available_target, kit_of
from lat_export.types import ModelSpec
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.report import FAILED, Report

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
    target = _target(spec, tell)
    target.demand_options(spec.engine)
    with staged(spec.out, replaceable=is_bundle, force=spec.force) as staging:
        with _timed("load", tell):
            loaded = load(spec)
        checkpoint = loaded.checkpoint
        warnings = _Warnings(tell, [*checkpoint.warnings, *unused_options(spec, target)])
        plan = build_plan(spec, checkpoint.signature, target)
        with _timed("trace", tell):
            traced = trace(loaded)
        in_half = spec.precision != "fp32"
        with _timed("graph", tell):
            graph = build_graph(loaded, traced, staging.scratch / "fp32" if in_half else staging.folder)
        del traced
        judge = Judge(target=target.name, precision=spec.precision, ops=tuple(graph.lat_nodes))
        golden = None
        if spec.validate:
            with _timed("record", tell):
                profiles = case_profiles(spec, plan)
                golden = record(loaded, staging.folder, export_command(spec), profiles, precision=spec.precision)
            warnings.add(golden.note_on_reference())
        del loaded  # from here on nothing needs PyTorch's copy of the weights
        if in_half:
            with _timed("narrow", tell):
                graph = _narrowed(spec, graph, golden, judge, staging, tell)
            warnings.add(near_overflow(graph.largest))
        with _timed("lower", tell):
            lowered = lower(graph, target, plan, staging.scratch)
        with _timed("build", tell):
            built = build(lowered, target, staging.folder, checkpoint.signature)
        warnings.add(*built.warnings)
        report = None
        if golden is not None:
            with _timed("validate", tell):
                scratch = staging.scratch
                report = validate(staging.folder, target, lowered.plan, built.forms, golden, scratch, judge, tell)
            _demand_parity(report, spec)
        if target.is_kit:
            with _timed("kit", tell):
                built = write_kit(
                    staging.folder, built, lowered.plan, checkpoint.signature, judge, export_command(spec)
                )
        with _timed("bundle", tell):
            write_bundle(staging.folder, checkpoint, graph, lowered, target, built, report, warnings.told)
    return Exported(read_bundle(spec.out), report)


def _target(spec: ModelSpec, tell: Tell) -> Target:
    """What is built, which may not be what was asked for."""
    if spec.kit:
        return kit_of(spec.target)
    target, notice = available_target(spec.target)
    if notice:
        tell(f"notice: {notice}")
    return target


def _narrowed(
    spec: ModelSpec, whole: Graph, golden: Golden | None, judge: Judge, staging: Staging, tell: Tell
) -> Graph:
    """In half precision, but for what the user names, or what parity and the range of float16 need.

    Raises:
        ParityError: a value is too large for float16, and its part was not to be kept.
    """

    def notice(line: str) -> None:
        tell(f"notice: {line}")

    names = spec.keep_fp32
    if golden is None:
        if names is None:
            notice(f"--no-validate: nothing asked which parts cannot be in {spec.precision}")
        return narrow(whole, staging.folder, spec.precision, named(whole, names or (), asked=names is not None))
    overflowing: set[str] = set()
    while True:
        if names is not None:
            kept = named(whole, names)
        else:
            kept = needed(whole, golden, judge, staging.scratch, notice, overflowing)
        graph = narrow(whole, staging.folder, spec.precision, kept)
        found = stored_values(graph, golden)
        # Parity need not see them: what comes behind may bound them again.
        more = overflowing_parts(graph, found) if names is None else set()
        if more <= overflowing:
            return replace(graph, largest=check_overflow(found, KEEP_MORE if names is not None else ""))
        overflowing |= more


# What may be done where a precision loses parity.
FINER = {
    "fp16": "weights and products in 11 bits are too coarse for this checkpoint: export it in fp32",
    "bf16": "weights and products in 8 bits are too coarse for this checkpoint: --precision fp16 has 11, fp32 24",
}


def _demand_parity(report: Report, spec: ModelSpec) -> None:
    way_out = KEEP_MORE if spec.keep_fp32 is not None else FINER.get(spec.precision, "")
    for subject, row in report.failures():
        raise ParityLostError(
            subject.subject, row.case, row.output, row.relative_l2, row.tolerance, row.remark, report, way_out
        )
    for subject in report.subjects:
        for node in subject.sampled:
            if node.verdict == FAILED:
                place = f"{node.node}, on its own inputs"
                raise ParityLostError(
                    subject.subject, node.case, place, node.relative_l2, node.tolerance, "", report, way_out
                )


NOTHING_WRITTEN = "nothing was written; with --no-validate the bundle is, for a look with lat-export inspect"


class ParityLostError(ParityError):
    """The first output that is further from PyTorch than its tolerance; `report` has them all."""

    def __init__(
        self,
        subject: str,
        case: str,
        output: str,
        relative_l2: float,
        tolerance: float,
        remark: str,
        report: Report,
        way_out: str = "",
    ) -> None:
        self.report = report
        super().__init__(
            f"{subject} does not compute what PyTorch computes",
            got=f"relative L2 {relative_l2:.1e} in {output}" + (f" ({remark})" if remark else ""),
            expected=f"at most {tolerance:.0e}",
            hint="; ".join(filter(None, (way_out, NOTHING_WRITTEN))),
            where={"stage": "validate", "case": case},
        )


class _Warnings:
    """Told at once, and kept for the manifest."""

    def __init__(self, tell: Tell, first: list[str]) -> None:
        self._tell = tell
        self.told: list[str] = []
        self.add(*first)

    def add(self, *warnings: str | None) -> None:
        for warning in warnings:
            if warning is not None:
                self._tell(f"warning: {warning}")
                self.told.append(warning)


@contextmanager
def _timed(stage: str, tell: Tell) -> Iterator[None]:
    started = time.perf_counter()
    tell(f"{stage} ...")
    yield
    tell(f"{stage} done in {time.perf_counter() - started:.1f} s")
