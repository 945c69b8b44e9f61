"""Every rule over one portable model, and TensorRT-RTX's own word where it is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lat_export.dry_run.dtypes import dtype_findings
from lat_export.dry_run.findings import ERROR, NOTE, WARNING, Finding, gravest_first
from lat_export.dry_run.importers import Importers, importers
from lat_export.dry_run.memory import MemoryEstimate, estimate
from lat_export.dry_run.nodes import classify, node_findings
from lat_export.dry_run.plugin_rules import PluginLibrary, lat_findings, library_findings, plugin_library
from lat_export.dry_run.profile_rules import corners, profile_findings
from lat_export.dry_run.report import DryRun, Trial
from lat_export.dry_run.restrictions import restriction_findings
from lat_export.dry_run.values import Point, evaluated
from lat_export.engine_options import EngineOptions
from lat_export.errors import InputError, LatExportError, first_line
from lat_export.ops import DOMAIN, StaticBounds
from lat_export.profiles import profile_text
from lat_export.targets import KITS, TARGETS, BuildPlan
from lat_export.targets.lowering import bounded, inline, name_callers
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.types import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

RTX = "trt-rtx"
# As its builder logs it.
ACTIVATIONS = "Total Activation Memory"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """A portable model to examine.

    Attributes:
        name: as the user gave it.
        signature: None of a bare ONNX file.
    """

    name: str
    portable: Path
    inputs: tuple[TensorSpec, ...]
    signature: Signature | None = None


def examine(given: Given, target: TensorRTTarget, plan: BuildPlan, scratch: Path, tell: Tell) -> DryRun:
    """
    Args:
        plan: with a range for every dynamic dim of the inputs.
        scratch: folder for what TensorRT-RTX builds.
    """
    tell("rules ...")
    table = importers(target.name)
    library = plugin_library() if target.has_plugins else None
    registered = library.registered if library else frozenset()
    bounds = StaticBounds(max_global=plan.max_global)
    portable = bounded(given.portable, bounds)
    flat = flattened(bounded(given.portable, bounds), registered)
    kinds = classify(portable if target.has_plugins else flat, table, registered)
    points = {corner: evaluated(flat, sizes) for corner, sizes in corners(plan).items()}
    of_contract = {corner: evaluated(portable, sizes) for corner, sizes in corners(plan).items()}

    findings = [*node_findings(kinds, table), *_opset_findings(portable, table), *_option_findings(target, plan)]
    profile = list(profile_findings(portable.graph, plan, given.signature))
    sound = all(finding.severity != ERROR for finding in profile)
    findings += profile
    if library is not None:
        findings += library_findings(library, None if target.missing() else target.version())
    plugins = library or PluginLibrary(built=False)
    findings += lat_findings(portable.graph, of_contract, plugins, sizes_are_sound=sound)
    findings += restriction_findings(flat, points, target.name)
    findings += dtype_findings(flat, points["max"], table)
    if sound:
        findings += _shape_findings(points, {finding.node for finding in findings})
    # Options are the library's own: those of TensorRT say nothing to TensorRT-RTX.
    refused = any(finding.rule == "options" for finding in findings)
    for_rtx = plan if target.name == RTX and not refused else replace(plan, options=EngineOptions())
    trial = _built_for_real(given, for_rtx, scratch, tell)
    largest = [point for corner, point in points.items() if corner.endswith("max")]
    memory = max((estimate(flat, point) for point in largest), key=lambda found: found.activations_bytes)
    findings += [*_trial_findings(trial, target), *_planned_findings(trial, memory, plan)]
    return DryRun(
        model=given.name,
        target=target.name,
        rules=table,
        plan=plan,
        nodes=tuple(kinds),
        lat_nodes={str(node.name): node.op_type for node in portable.graph if node.domain == DOMAIN},
        library=library,
        memory=memory,
        trial=trial,
        findings=gravest_first(findings),
    )


def flattened(program: ir.Model, kept: frozenset[str]) -> ir.Model:
    """Bodies in place of their nodes, but for those that a plugin runs; each node of a body knows its caller."""
    name_callers(program)
    inline(program, kept)
    return program


def _opset_findings(program: ir.Model, table: Importers) -> Iterator[Finding]:
    version = program.opset_imports.get("")
    if table.opsets and version is not None and not table.opsets[0] <= version <= table.opsets[1]:
        smallest, largest = table.opsets
        yield Finding(
            ERROR,
            "opset",
            f"{table.engine} {table.version} imports standard ops of other versions",
            got=str(version),
            expected=f"{smallest} to {largest}",
            mend="onnx.version_converter.convert_version, or export the model again",
        )


def _option_findings(target: TensorRTTarget, plan: BuildPlan) -> Iterator[Finding]:
    """Of the library where it is here. Elsewhere of what is known without it, and as a warning: `--to trt` may be built
    by TensorRT-RTX there, which has other options."""
    missing = target.missing() is not None
    asked = KITS.get(target.name) if missing else target
    if asked is None:
        return
    try:
        asked.demand_options(plan.options)
    except LatExportError as error:
        yield Finding.of(error, WARNING if missing else ERROR, "options")


def _shape_findings(points: dict[str, Point], told: set[str]) -> Iterator[Finding]:
    """What ONNX's shape inference says against a node, once, where no other rule had a word for it."""
    for corner, point in points.items():
        for name, message in point.refused.items():
            if name in told:
                continue
            told = told | {name}
            yield Finding(
                ERROR,
                "shapes",
                f"the shapes of this node do not fit together at the {corner} sizes of the profile",
                name,
                f"{message} ({', '.join(f'{dim}={size}' for dim, size in point.sizes.items())})",
                mend="other sizes: --batch, --seq, --choices, --max-global",
            )


def _built_for_real(given: Given, plan: BuildPlan, scratch: Path, tell: Tell) -> Trial:
    """An engine of TensorRT-RTX, which needs no GPU for that; it is not kept."""
    rtx = TARGETS[RTX]
    assert isinstance(rtx, TensorRTTarget)
    missing = rtx.missing()
    if missing:
        return Trial(missing=missing)
    tell(f"{rtx.title} builds ...")
    folder = scratch / "trial"
    folder.mkdir()
    engine = folder / rtx.engine_file
    started = time.perf_counter()
    try:
        lowered = rtx.lower(given.portable, folder, plan)
        answer = rtx.build_engine(lowered, engine, given.inputs, plan)
    except LatExportError as error:
        return Trial(version=rtx.version(), errors=(f"{error.what}: {error.got}" if error.got else error.what,))
    return Trial(
        version=answer["version"],
        seconds=round(time.perf_counter() - started, 3),
        engine_bytes=engine.stat().st_size,
        warnings=tuple(answer["warnings"]),
        memory=answer["memory"],
    )


def _trial_findings(trial: Trial, target: TensorRTTarget) -> Iterator[Finding]:
    """For `--to trt-rtx` it is the verdict itself, for `--to trt` a hint: the parsers are of one source."""
    rule = "TensorRT-RTX builds it"
    decides = target.name == RTX
    if trial.missing:
        what = "TensorRT-RTX is not installed: nothing was built for real"
        yield Finding(NOTE, rule, what, mend=trial.missing)
    for error in trial.errors:
        what = "TensorRT-RTX, asked for real, does not build this graph"
        yield Finding(ERROR if decides else WARNING, rule, what, got=error, mend="see the nodes named above, if any")
    for warning in trial.warnings:
        yield Finding(NOTE, rule, "TensorRT-RTX warns", got=warning)


def _planned_findings(trial: Trial, memory: MemoryEstimate, plan: BuildPlan) -> Iterator[Finding]:
    """A builder bounds what it computes from dynamic sizes by itself, and badly where a range begins low."""
    planned = trial.memory.get(ACTIVATIONS, 0)
    if memory.explains(planned):
        return
    ranges = " or ".join(map(profile_text, plan.profiles))
    yield Finding(
        WARNING,
        "memory",
        "TensorRT-RTX plans far more activation memory than the graph has: it cannot bound some size by the profile's",
        got=f"{planned} bytes for {ranges}",
        expected=f"about {memory.activations_bytes} bytes",
        mend="begin --seq higher, at the attention window or above (256:512:4096, say), or fix the sizes",
    )


def given_model(name: str, portable: Path, signature: Signature | None) -> Given:
    """A portable model on disk; without a signature its inputs are those of the graph."""
    import onnx_ir as ir

    if signature is not None:
        return Given(name, portable, signature.inputs, signature)
    try:
        graph = ir.load(portable).graph
    except Exception as error:  # protobuf's and the file system's kinds
        raise InputError("not an ONNX model", got=f"{portable}: {first_line(error)}") from error
    inputs = tuple(
        TensorSpec(
            str(value.name),
            str(value.dtype.numpy()) if value.dtype else "",
            tuple(size if isinstance(size, int) else str(size) for size in value.shape or ()),
        )
        for value in graph.inputs
    )
    return Given(name, portable, inputs)
