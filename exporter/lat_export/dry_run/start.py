"""From what the user names, a checkpoint, a bundle or an ONNX file, to a dry run; nothing is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lat_export.dry_run.examine import Given, Tell, examine, given_model
from lat_export.dry_run.findings import WARNING, Finding, gravest_first
from lat_export.dry_run.report import DryRun
from lat_export.errors import InputError
from lat_export.profiles import DIMS, named_profiles
from lat_export.scratch import scratch_folder
from lat_export.stages.bundle import MANIFEST_FILE, read_bundle
from lat_export.stages.graph import build_graph
from lat_export.stages.load import load
from lat_export.stages.lower import DEFAULT_BATCH, DEFAULT_CHOICES, build_plan, profiles_for
from lat_export.stages.narrow import narrow_as_named
from lat_export.stages.trace import trace
from lat_export.targets import PORTABLE_MODEL, BuildPlan, target_named
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.types import ModelSpec


def dry_run(spec: ModelSpec, tell: Tell = lambda _: None) -> DryRun:
    """Tell whether `--to trt` or `--to trt-rtx` would build an engine.

    Args:
        spec: its `model` may also be a bundle or an ONNX file; `out` is not looked at.
        tell: called with one line for every step.
    Raises:
        InputError: a target that builds no engine, or a dynamic dim of a bare ONNX file without a range.
        LatExportError: of the stage that failed on the way to the portable model.
    """
    target = target_named(spec.target)
    if not isinstance(target, TensorRTTarget):
        raise InputError("a dry run is of engines", got=f"--to {spec.target}", expected="--to trt or --to trt-rtx")
    with scratch_folder() as scratch:
        given, plan, warnings = _given(spec, target, scratch, tell)
        found = examine(given, target, plan, scratch, tell)
    told = tuple(Finding(WARNING, "checkpoint", warning) for warning in warnings)
    return replace(found, findings=gravest_first((*found.findings, *told)))


def _given(
    spec: ModelSpec, target: TensorRTTarget, scratch: Path, tell: Tell
) -> tuple[Given, BuildPlan, tuple[str, ...]]:
    path = Path(spec.model)
    if (path / MANIFEST_FILE).is_file():
        return *_of_bundle(path, spec, target), ()
    if path.is_file():
        return *_of_file(path, spec), ()
    tell("load ...")
    loaded = load(spec)
    signature = loaded.signature
    tell("trace ...")
    traced = trace(loaded)
    tell("graph ...")
    graph = narrow_as_named(
        build_graph(loaded, traced, scratch), scratch / "half", spec.precision, spec.keep_fp32 or ()
    )
    given = given_model(spec.model, graph.model, signature)
    return given, build_plan(spec, signature, target), loaded.checkpoint.warnings


def _of_bundle(folder: Path, spec: ModelSpec, target: TensorRTTarget) -> tuple[Given, BuildPlan]:
    """For the sizes that the user names, else those that the bundle's engine was built for, else the usual ones."""
    bundle = read_bundle(folder)
    _demand_precision(spec, bundle.manifest["precision"])
    signature = bundle.signature
    usual = build_plan(spec, signature, target)
    max_global = spec.max_global if spec.max_global is not None else usual.max_global
    plan = replace(usual, max_global=max_global if signature.max_global is not None else None)
    if not spec.profiles:
        (named,) = named_profiles(spec)
        sizes = [{**usual.sizes, **built_for, **named} for built_for in bundle.plan.profiles]
        first, *more = (profile for index, profile in enumerate(sizes) if profile not in sizes[:index])
        plan = replace(plan, sizes=first, more_profiles=tuple(more))
    return given_model(spec.model, folder / PORTABLE_MODEL, signature), plan


def _demand_precision(spec: ModelSpec, own: str) -> None:
    """What is exported already has its element types, and keeps them."""
    if spec.precision not in ("fp32", own):
        raise InputError(
            "only a checkpoint can be examined in another precision",
            got=f"--precision {spec.precision}, {spec.model}",
            expected="a checkpoint, or no --precision",
        )
    if spec.keep_fp32 is not None:
        raise InputError(
            "of a bundle the parts in fp32 are chosen already",
            got="--keep-fp32",
            expected="a checkpoint, or no --keep-fp32",
        )


def _of_file(path: Path, spec: ModelSpec) -> tuple[Given, BuildPlan]:
    _demand_precision(spec, "fp32")
    given = given_model(spec.model, path, None)
    usual = {"batch": DEFAULT_BATCH, "choices": DEFAULT_CHOICES}
    known = {*usual, *(dim for dim in DIMS.values() if all(dim in named for named in named_profiles(spec)))}
    options = {"batch": "--batch", "choices": "--choices", "sequence": "--seq"}
    for tensor in given.inputs:
        for dim in tensor.dims:
            if isinstance(dim, str) and dim not in known:
                option = options.get(dim)
                raise InputError(
                    f"no sizes for {dim}, a dimension of input {tensor.name}",
                    got=path,
                    expected="a range for every dimension without a size",
                    hint=f"{option} MIN:OPT:MAX" if option else f"call the dimensions of inputs {', '.join(options)}",
                )
    used = {dim for tensor in given.inputs for dim in tensor.dims}
    first, *more = profiles_for(spec, usual, used)
    return given, BuildPlan(first, spec.max_global, more_profiles=tuple(more), options=spec.engine)
