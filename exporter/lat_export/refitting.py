"""refit: an engine that was built stripped or refittable + a checkpoint -> an engine with that checkpoint's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.digest import file_sha256
from lat_export.environment import gpu_count
from lat_export.errors import InputError, MissingError
from lat_export.scratch import scratch_folder
from lat_export.stages.bundle import MANIFEST_FILE, Bundle, read_bundle
from lat_export.stages.graph import build_graph
from lat_export.stages.load import load
from lat_export.stages.narrow import narrow_as_named
from lat_export.stages.trace import trace
from lat_export.targets import PORTABLE_MODEL, target_of
from lat_export.targets.tensorrt_child import answer_of
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.types import OPTIONAL_INPUTS, OPTIONAL_OUTPUTS, ModelSpec, Options, Signature

if TYPE_CHECKING:
    import onnx_ir as ir

Tell = Callable[[str], None]
WHERE = {"stage": "refit"}


@dataclass(frozen=True)
class Refitted:
    """
    Attributes:
        library: title and version of what did it.
    """

    out: Path
    bytes: int
    library: str


def refit(
    engine: Path, checkpoint: str, out: Path, *, allow_pickle: bool = False, tell: Tell = lambda _: None
) -> Refitted:
    """Write the engine with the checkpoint's weights to `out`.

    Everything but the refit itself needs no GPU, and is checked before one is asked for.

    Args:
        engine: of a bundle, whose manifest says what it was built from.
        checkpoint: a folder written by ``save_pretrained``, or a hub id, of the same architecture.
    Raises:
        InputError: the engine was not built for it, or the checkpoint is of another model or, for an engine that was
            stripped and is not refittable, has other weights.
        MissingError: no GPU, or not the library that the engine is of.
    """
    bundle = _bundle_of(engine)
    if out.exists():
        raise InputError("the file is there already", got=out, hint="another --out, or remove it", where=WHERE)
    target = target_of(bundle.manifest)
    assert isinstance(target, TensorRTTarget)
    with scratch_folder() as scratch:
        tell("load ...")
        loaded = load(_spec(bundle, checkpoint, out, allow_pickle=allow_pickle))
        _demand_the_same_signature(loaded.signature, bundle.signature)
        tell("trace ...")
        traced = trace(loaded)
        tell("graph ...")
        graph = build_graph(loaded, traced, scratch)
        del loaded, traced
        portable = narrow_as_named(graph, scratch / "half", bundle.manifest["precision"], bundle.kept_in_fp32).model
        tell("compare ...")
        demand_same_graph(bundle.folder / PORTABLE_MODEL, portable, same_weights=not bundle.plan.options.refittable)
        lowered = target.lower(portable, scratch, bundle.plan)
        if gpu_count() == 0:
            raise MissingError(
                "an engine is refitted on a GPU, and this machine has none",
                got="no NVIDIA GPU or driver; that the checkpoint fits the engine was checked",
                hint=f"the same command on a machine with a GPU and {target.title}",
                where=WHERE,
            )
        if lack := target.missing():
            raise MissingError(f"{target.title} is not installed", hint=lack, where=WHERE)
        tell("refit ...")
        request = {
            "module": target.module,
            "engine": str(engine.absolute()),
            "model": str(lowered),
            "out": str(out.absolute()),
            "plugins": [str(library) for library in target.loaded_for(bundle.plan)],
            "answer": str(scratch / "answer.json"),
        }
        answer = answer_of("tensorrt_refit", target.title, request, "refit", "refitted the engine")
    return Refitted(out, answer["bytes"], f"{target.title} {answer['version']}")


def _bundle_of(engine: Path) -> Bundle:
    if not engine.is_file():
        raise InputError("no such engine", got=engine, where=WHERE)
    if not (engine.parent / MANIFEST_FILE).is_file():
        raise InputError(
            "the engine is in no bundle, whose manifest would say what it was built from",
            got=engine,
            expected=f"a {MANIFEST_FILE} beside it",
            hint="give the engine in the folder that lat-export model wrote",
            where=WHERE,
        )
    bundle = read_bundle(engine.parent)
    listed = bundle.manifest["files"].get(engine.name)
    if listed is None or listed["role"] != "engine" or listed["sha256"] != file_sha256(engine):
        raise InputError("this file is not the bundle's engine", got=engine.name, where=WHERE)
    options = bundle.plan.options
    if not (options.strip_weights or options.refittable):
        raise InputError(
            "the engine was not built to be refitted",
            got="neither --refittable nor --strip-weights in its manifest",
            hint="export it again with --refittable, or with both for an engine file without weights",
            where=WHERE,
        )
    return bundle


def _spec(bundle: Bundle, checkpoint: str, out: Path, *, allow_pickle: bool) -> ModelSpec:
    """The bundle's own export, of another checkpoint."""
    signature, manifest = bundle.signature, bundle.manifest
    groups = {spec.name.partition(".")[0] for spec in signature.outputs}
    return ModelSpec(
        checkpoint,
        manifest["target"],
        out,
        task=signature.task,
        max_global=bundle.plan.max_global,
        options=Options(**manifest["options"]),
        inputs=tuple(name for name in OPTIONAL_INPUTS if signature.has_input(name)),
        outputs=tuple(name for name in OPTIONAL_OUTPUTS if name in groups),
        allow_pickle=allow_pickle,
        precision=manifest["precision"],
        keep_fp32=bundle.kept_in_fp32 or None,
    )


def _demand_the_same_signature(found: Signature, wanted: Signature) -> None:
    for name, value in wanted.to_json().items():
        if (got := found.to_json()[name]) != value:
            raise InputError(
                f"the checkpoint is of another model than the engine: {name} differs",
                got=got,
                expected=value,
                hint="a checkpoint of the same architecture, or a new export",
                where=WHERE,
            )


def demand_same_graph(built_from: Path, given: Path, *, same_weights: bool) -> None:
    """
    Args:
        same_weights: the weights themselves must be equal, too: the engine was stripped of them and is built upon them.
    Raises:
        InputError: nodes or weights differ; the first that does is named.
    """
    import numpy as np
    import onnx_ir as ir

    ours, theirs = ir.load(built_from).graph, ir.load(given).graph
    for mine, other in zip_longest(ours, theirs):
        if mine is None or other is None or _kind(mine) != _kind(other):
            raise _other_graph(f"node {_name(mine)}", _name(other))
    for name, value in ours.initializers.items():
        other_value = theirs.initializers.get(name)
        left, right = value.const_value, other_value.const_value if other_value is not None else None
        if left is None or right is None or (left.shape, left.dtype) != (right.shape, right.dtype):
            raise _other_graph(f"weight {name}", "none" if right is None else f"{right.dtype}{list(right.shape)}")
        if same_weights and not np.array_equal(left.numpy(), right.numpy()):
            raise InputError(
                "the checkpoint's weights are not those that the engine was built from, and stripped of",
                got=f"{name} differs",
                expected="the same checkpoint",
                hint="export again with --strip-weights --refittable: such an engine takes any weights",
                where=WHERE,
            )


def _kind(node: ir.Node) -> tuple[Any, ...]:
    """Operator, name and attributes; constants with their numbers, which are sizes, not weights."""
    attributes = {name: str(attribute.value) for name, attribute in node.attributes.items()}
    return (node.domain, node.op_type, node.name, attributes)


def _name(node: ir.Node | None) -> str:
    return "none" if node is None else f"{node.name} ({node.op_type})"


def _other_graph(expected: str, got: str) -> InputError:
    return InputError(
        "the checkpoint makes another graph than the engine was built from",
        got=got,
        expected=expected,
        hint="a checkpoint of the same architecture and lat-export of the same version, or a new export",
        where=WHERE,
    )
