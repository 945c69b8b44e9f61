"""What our TensorRT plugins would say to each `lat` node, without TensorRT, a GPU or the library.

The op's contract is asked, as the plugin asks its own copy of it (plugins/common/contract.cpp): fields complete and in
their bounds, inputs by letters at the profile's smallest, usual and largest sizes, one type for all activations. The
CUDA kernels' head sizes are those of plugins/common/cuda_entry.cpp; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export import native
from lat_export.dry_run.findings import ERROR, NOTE, WARNING, Finding
from lat_export.dry_run.importers import type_name
from lat_export.dry_run.values import Point, Value
from lat_export.errors import InputError, MissingError, ShapeError
from lat_export.ops import DOMAIN, OPS, Op
from lat_export.ops.contract import PLUGIN_ATTRIBUTES

if TYPE_CHECKING:
    import onnx_ir as ir

CUDA_HEAD_SIZES = (16, 32, 64, 128)
LARGEST_FIELD = 2**31 - 1
FIELDS, INPUTS, HEAD_SIZE, LIBRARY = "plugin fields", "inputs of a lat op", "head size", "plugin library"
PLUGIN_SOURCE = "tensorrt_plugin.cpp"


@dataclass(frozen=True)
class PluginLibrary:
    """liblat_trt.so of this machine.

    Attributes:
        built: whether it is here.
        why_not: else the reason.
        ops: op types that it has plugins of; where it is not built, of which there are sources here.
        major: of TensorRT's headers it was built with.
        archs: GPU architectures of its kernels: `sm_90`, or `compute_120` for PTX.
    """

    built: bool
    why_not: str = ""
    ops: tuple[str, ...] = ()
    major: str = ""
    archs: tuple[str, ...] = ()

    @property
    def registered(self) -> frozenset[str]:
        """Op types that a build on this machine has plugins of."""
        return frozenset(self.ops if self.built else ())


def plugin_library() -> PluginLibrary:
    """What is built here, or what could be."""
    try:
        native.tensorrt_library()
    except MissingError as error:
        sources = tuple(name for name, op in OPS.items() if (native.SOURCES / op.stem / PLUGIN_SOURCE).is_file())
        return PluginLibrary(built=False, why_not=str(error.got), ops=sources)
    found = native.plugins()
    assert found is not None
    ops = tuple(name for name, op in OPS.items() if op.stem in found.tensorrt)
    return PluginLibrary(built=True, ops=ops, major=found.tensorrt_major, archs=found.cuda_archs)


def library_findings(library: PluginLibrary, tensorrt_version: str | None) -> Iterator[Finding]:
    """
    Args:
        tensorrt_version: of the TensorRT of this machine, if it is here.
    """
    if not library.built:
        what = "liblat_trt.so is not built here: every lat node would run as its function body"
        mend = "lat-export plugins build --arch 90 --tensorrt-include DIR, where nvcc and TensorRT's headers are"
        yield Finding(NOTE, LIBRARY, what, got=library.why_not, mend=mend)
    elif tensorrt_version and tensorrt_version.partition(".")[0] != library.major:
        what = "the plugins were built for another major version of TensorRT"
        mend = "lat-export plugins build --tensorrt-include with the headers of the TensorRT that will load it"
        expected = tensorrt_version.partition(".")[0]
        yield Finding(WARNING, LIBRARY, what, got=library.major, expected=expected, mend=mend)


def lat_findings(
    graph: ir.Graph, points: dict[str, Point], library: PluginLibrary, *, sizes_are_sound: bool
) -> Iterator[Finding]:
    """Every `lat` node of the portable graph against its contract and its plugin.

    Args:
        points: what its values are at "min", "opt" and "max".
        sizes_are_sound: whether inputs are to be checked; with an unsound profile every node would only say so again.
    """
    for node in graph:
        if node.domain == DOMAIN and node.op_type in OPS:
            checked = points if sizes_are_sound else {}
            yield from _node_findings(node, OPS[node.op_type], checked, points["max"], library)


def _node_findings(
    node: ir.Node, op: Op, points: dict[str, Point], largest: Point, library: PluginLibrary
) -> Iterator[Finding]:
    name = str(node.name)
    fields = {key: attribute.value for key, attribute in node.attributes.items() if key not in PLUGIN_ATTRIBUTES}
    wrong = list(_field_findings(name, op, fields))
    yield from wrong
    if op.name in library.ops:
        yield from _naming(node)
    if wrong:
        return  # the shapes hang on the fields
    for at, point in points.items():
        inputs = [point.of(value) for value in node.inputs]
        broken = _input_finding(name, op, fields, inputs, at)
        if broken:
            yield broken
            return
    if op.name in library.ops:
        inputs = [largest.of(value) for value in node.inputs]
        yield from _plugin_limits(name, op, fields, inputs, certain=library.built)


def _field_findings(name: str, op: Op, fields: dict[str, Any]) -> Iterator[Finding]:
    kinds = {attribute.name: attribute.kind for attribute in op.attributes}
    mend = f"set the attribute of node {name}, or export the model again"
    for key, value in fields.items():
        kind = kinds.get(key)
        if kind is not None and not isinstance(value, kind):
            what = f"attribute {key} of {DOMAIN}::{op.name} is of another type"
            yield Finding(ERROR, FIELDS, what, name, repr(value), kind.__name__, mend)
            return
        if kind is int and value > LARGEST_FIELD:
            what = f"attribute {key} of {DOMAIN}::{op.name} does not fit into a plugin field"
            yield Finding(ERROR, FIELDS, what, name, repr(value), f"at most {LARGEST_FIELD} (int32)", mend)
            return
        if kind is float and not math.isfinite(value):
            what = f"attribute {key} of {DOMAIN}::{op.name} is not finite"
            yield Finding(ERROR, FIELDS, what, name, repr(value), "a finite number > 0", mend)
            return
    try:
        op.check_attributes(fields)
    except InputError as error:
        yield Finding.of(error, ERROR, FIELDS, name, mend)


def _naming(node: ir.Node) -> Iterator[Finding]:
    for key, value in PLUGIN_ATTRIBUTES.items():
        given = node.attributes.get(key)
        if given is None or given.value != value:
            got = "none" if given is None else repr(given.value)
            what = f"{key} is what makes TensorRT take the plugin and not the function body"
            yield Finding(WARNING, FIELDS, what, str(node.name), got, repr(value), "export the model again")


class _Described:
    """As much of a tensor as a contract looks at."""

    def __init__(self, value: Value) -> None:
        self.dtype = type_name(value.dtype)
        self.shape = value.whole or ()
        self.ndim = len(self.shape)


def _input_finding(name: str, op: Op, fields: dict[str, Any], inputs: list[Value], at: str) -> Finding | None:
    if any(value.whole is None for value in inputs):
        return Finding(
            WARNING, INPUTS, "the shape of an input is not known, so the contract is not checked", name, f"{at} sizes"
        )
    described: Any = tuple(_Described(value) for value in inputs)
    try:
        op.check_inputs(described, fields)
    except ShapeError as error:
        found = Finding.of(error, ERROR, INPUTS, name)
        place = f"{found.got} at the {at} sizes of the profile"
        mend = found.mend or "export the model again: this is not the graph that lat-export wrote"
        of_input = f"input {error.where['input']}: " if "input" in error.where else ""
        return Finding(ERROR, INPUTS, of_input + error.what, name, place, found.expected, mend)
    floats = {tensor.dtype for port, tensor in zip(op.inputs, described, strict=True) if "float32" in port.dtypes}
    if "float64" in floats or len(floats) > 1:
        what = "activations and weights of a lat node are of one type"
        return Finding(
            ERROR, INPUTS, what, name, ", ".join(sorted(floats)), "float32, float16 or bfloat16", "cast before the node"
        )
    return None


def _plugin_limits(
    name: str, op: Op, fields: dict[str, Any], inputs: list[Value], *, certain: bool
) -> Iterator[Finding]:
    """A head size that the CUDA kernels lack: the plugin ends the build when it is configured."""
    width = (inputs[0].whole or (0,))[-1]
    head_size = width // fields["num_heads"]
    if head_size in CUDA_HEAD_SIZES:
        return
    yield Finding(
        ERROR if certain else WARNING,
        HEAD_SIZE,
        f"the plugin of {DOMAIN}::{op.name} refuses this head size"
        + ("" if certain else ", where liblat_trt.so is loaded (it is not built here)"),
        name,
        f"D={head_size} (E={width}, num_heads={fields['num_heads']})",
        "D of " + ", ".join(map(str, CUDA_HEAD_SIZES)),
        "build without liblat_trt.so: the function body takes any head size",
    )
