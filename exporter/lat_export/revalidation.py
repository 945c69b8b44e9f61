"""A bundle checked again, on any machine: digests, golden tensors, artifacts. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lat_export.divergence import Search, search
from lat_export.engine_options import EngineOptions
from lat_export.errors import InputError
from lat_export.scratch import scratch_folder
from lat_export.stages.bundle import precision_of, read_bundle
from lat_export.stages.validate import validate, validate_subjects, with_sampled_nodes
from lat_export.targets import BuildPlan, Target, target_of
from lat_export.targets.foreign import ONNX_SUFFIXES, Names, foreign_subject
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.report import Report


def revalidate(
    folder: Path,
    judge: Judge | None = None,
    golden: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
    runtime_cache: Path | None = None,
) -> Report:
    """Check a bundle's digests and run its artifacts against golden tensors again.

    Args:
        judge: tolerances and repetitions; target, precision and ops are the bundle's own.
        golden: other golden tensors than the bundle's.
        runtime_cache: file of what TensorRT-RTX compiles when its engine runs.
    Raises:
        InputError: no bundle, one without golden tensors, or golden tensors of another signature.
        ParityError: a file was changed.
    """
    bundle = read_bundle(folder)
    if golden is None and bundle.manifest["validated"] is None:
        raise InputError("the bundle holds no golden tensors", got=folder, hint="export it without --no-validate")
    target = target_of(bundle.manifest)
    tensors = Golden(golden or folder)
    if tensors.signature.inputs != bundle.signature.inputs or tensors.signature.outputs != bundle.signature.outputs:
        raise InputError("the golden tensors are of another signature than the bundle", got=golden, expected=folder)
    known = {"precision": bundle.manifest["precision"], "ops": tuple(bundle.manifest["lat_nodes"])}
    judge = replace(judge or Judge(), target=target.name, **known)
    with scratch_folder() as scratch:
        plan = _with_runtime_cache(bundle.plan, target, runtime_cache)
        return validate(folder, target, plan, bundle.forms, tensors, scratch, judge, tell)


def _with_runtime_cache(plan: BuildPlan, target: Target, file: Path | None) -> BuildPlan:
    if file is None:
        return plan
    if not isinstance(target, TensorRTTarget):
        raise InputError("a runtime cache is of engines", got=f"--runtime-cache for {target.title}", expected="trt-rtx")
    target.demand_options(EngineOptions(runtime_cache=file))
    return replace(plan, options=replace(plan.options, runtime_cache=file))


def validate_artifact(
    artifact: Path,
    golden: Path | None,
    names: Path | None,
    judge: Judge,
    wanted: Search | None = None,
    tell: Callable[[str], None] = lambda _: None,
    runtime_cache: Path | None = None,
) -> Report:
    """Validate a bundle, an engine or an ONNX file, and search for where it parts from another side if that is wanted.

    Raises:
        InputError: an engine without golden tensors, or a search in one.
    """
    if artifact.is_dir():
        if names is not None:
            raise InputError("a bundle's tensors have the golden's names", got=f"--names {names}")
        report = revalidate(artifact, judge, golden, tell, runtime_cache)
        wanted = wanted and replace(wanted, precision=precision_of(artifact))
    elif not artifact.exists():
        raise InputError("no such bundle, engine or ONNX file", got=artifact)
    elif golden is None:
        raise InputError(
            "an engine or ONNX file by itself has no golden tensors",
            got=artifact,
            hint="name them: --against FOLDER, a bundle or what lat-export golden make wrote",
        )
    elif runtime_cache is not None:
        raise InputError("a runtime cache is taken for bundles", got=artifact, hint="leave --runtime-cache out")
    else:
        report = validate_foreign(artifact, golden, names, judge, tell)
    if wanted is None:
        return report
    found = search(artifact, Golden(golden or artifact), wanted, report, tell)
    first = report.subjects[0]
    sampled = tuple(replace(node, flip_rate=found.flip_rates.get(node.node)) for node in first.sampled)
    first = replace(first, layers=found.layers, sampled=sampled)
    return replace(report, subjects=(first, *report.subjects[1:]), divergence=found.divergence)


def validate_foreign(
    engine: Path, golden: Path, names: Path | None, judge: Judge, tell: Callable[[str], None] = lambda _: None
) -> Report:
    """Compare an engine or ONNX file that came from elsewhere with golden tensors.

    Args:
        names: JSON file of what the golden's tensors are called in the engine.
    Raises:
        InputError: no engine or golden, or tensors that the names do not match.
    """
    tensors = Golden(golden)
    called = Names.read(names)
    subject, asked = foreign_subject(engine, tensors.signature, called)
    report = validate_subjects([subject], [engine], tensors, judge, tell, signature=asked)
    if engine.suffix not in ONNX_SUFFIXES:
        return report
    theirs = {ours: name for ours, name in called.theirs.items() if name is not None}
    return with_sampled_nodes(report, engine, tensors, judge, theirs)
