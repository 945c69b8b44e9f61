"""Element types in a strongly typed network, which is all that TensorRT 11 has and what lat-export builds with 10.

Known: nothing is converted by itself, so the operands of an op are of one type; the types that TensorRT has at all; the
types that its documentation gives for each op. int64 is a type of its own since TensorRT 10 (before, it was cut to
int32), float64 is read as float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lat_export.dry_run.findings import ERROR, NOTE, WARNING, Finding
from lat_export.dry_run.importers import TYPES, Importers, type_name
from lat_export.dry_run.values import Point, named_nodes

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

RULE = "element types"
OF_TENSORRT = frozenset(TYPES.values())
DOUBLE = "DOUBLE"
# Types beyond the documented ones that TensorRT-RTX 1.7.1 builds all the same: Longformer's position ids are a running
# sum of int64, kept in the position table by a Clip. What is in it is a note instead of a warning.
SEEN_TO_BUILD = {("CumSum", "INT64"), ("Clip", "INT64")}


def dtype_findings(program: ir.Model, point: Point, table: Importers) -> Iterator[Finding]:
    """
    Args:
        program: functions inlined.
        point: its values, at any size.
    """
    undocumented: dict[tuple[str, str], list[str]] = {}
    for name, node in named_nodes(program):
        yield from _unknown_types(name, node, point)
        schema = _schema(program, node)
        if schema is None:
            continue
        yield from _mixed(name, node, schema, point)
        dtype = _type_of(node, schema, point)
        documented = table.operators.get(node.op_type)
        if documented and dtype and dtype != DOUBLE and dtype in OF_TENSORRT and dtype not in documented:
            undocumented.setdefault((node.op_type, dtype), []).append(name)
    for (op, dtype), names in undocumented.items():
        seen = (op, dtype) in SEEN_TO_BUILD
        yield Finding(
            NOTE if seen else WARNING,
            RULE,
            f"{op} on {type_name(dtype)} is not among the types that {table.engine} {table.version} documents "
            f"({len(names)} node{'s' * (len(names) > 1)})" + (", and TensorRT-RTX 1.7.1 builds it" if seen else ""),
            names[0],
            type_name(dtype),
            ", ".join(sorted(type_name(name) for name in table.operators[op])),
            f"cast around it, if {table.engine} refuses it",
        )
    yield from _of_the_graph(program, point)


def _unknown_types(name: str, node: ir.Node, point: Point) -> Iterator[Finding]:
    for output in node.outputs:
        dtype = point.of(output).dtype
        if dtype == DOUBLE:
            mend = "export again in float32: TensorRT reads float64 as float32"
            yield Finding(WARNING, RULE, "float64 is cut to float32", name, "float64", "float32", mend)
        elif dtype and dtype not in OF_TENSORRT:
            expected = ", ".join(sorted(type_name(known) for known in OF_TENSORRT))
            mend = "cast to a type that it has"
            yield Finding(ERROR, RULE, "TensorRT has no such element type", name, type_name(dtype), expected, mend)


def _schema(program: ir.Model, node: ir.Node) -> onnx.defs.OpSchema | None:
    import onnx

    try:
        return onnx.defs.get_schema(node.op_type, program.opset_imports.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return None


def _formals(node: ir.Node, schema: onnx.defs.OpSchema) -> Iterator[tuple[str, ir.Value]]:
    """The type variable and the value of every input; the last formal input of many stands for all that follow."""
    for index, value in enumerate(node.inputs):
        if value is not None and schema.inputs:
            yield schema.inputs[min(index, len(schema.inputs) - 1)].type_str, value


def _mixed(name: str, node: ir.Node, schema: onnx.defs.OpSchema, point: Point) -> Iterator[Finding]:
    variables = {constraint.type_param_str for constraint in schema.type_constraints}
    many = schema.inputs and schema.inputs[-1].option == schema.inputs[-1].option.Variadic
    if many and not schema.inputs[-1].is_homogeneous:
        return
    types: dict[str, dict[str, str]] = {}
    for variable, value in _formals(node, schema):
        dtype = point.of(value).dtype
        if variable in variables and dtype:
            types.setdefault(variable, {}).setdefault(dtype, str(value.name))
    for found in types.values():
        if len(found) > 1:
            got = ", ".join(f"{value}: {type_name(dtype)}" for dtype, value in found.items())
            mend = "put a Cast before it: a strongly typed network converts nothing by itself"
            yield Finding(ERROR, RULE, f"operands of {node.op_type} are of several types", name, got, "one type", mend)


def _type_of(node: ir.Node, schema: onnx.defs.OpSchema, point: Point) -> str:
    """The type that the documentation's column is about: that which output and inputs share, else the first input's."""
    of_output = schema.outputs[0].type_str if schema.outputs else ""
    inputs = list(_formals(node, schema))
    same = [value for variable, value in inputs if variable == of_output]
    chosen = same or [value for _, value in inputs]
    return point.of(chosen[0]).dtype if chosen else ""


def _of_the_graph(program: ir.Model, point: Point) -> Iterator[Finding]:
    types = {value.dtype for value in point.values.values()}
    long = [str(value.name) for value in program.graph.inputs if point.of(value).dtype == "INT64"]
    if long:
        what = f"inputs are int64: {', '.join(long)}"
        yield Finding(NOTE, RULE, what, mend="bind 8-byte integers; TensorRT before 10 took them as int32")
    if "BFLOAT16" in types:
        yield Finding(NOTE, RULE, "bfloat16 needs a GPU of compute capability 8.0 or later", mend="--precision fp16")
