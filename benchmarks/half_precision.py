"""What half precision costs, and what it would cost without each line of the policy.

    python benchmarks/half_precision.py [--work FOLDER]
    python benchmarks/half_precision.py --page      writes only docs/precision.md, from the last result

Every golden checkpoint on all its golden cases, in onnxruntime on the CPU, where each op computes in float32 and rounds
what it gives to the precision: what an engine stores is rounded, no more. The error of a program is the relative L2 of
an output of a case to PyTorch in float32; its worst and its rms over all outputs, cases and tasks of a family are
given, and how many are above the band of the precision. Programs:

- every part in half precision;
- as exported, with the parts in float32 that parity needs; and, of fp16, that as onnxruntime by itself runs it, which
  takes out the roundings between its own ops;
- for each line of the policy that keeps ops in float32: with those ops in half precision;
- inside the bodies, which compute in float32: with each of their ops rounded, softmax and normalisation op by op;
- weights rounded, and nothing else;
- PyTorch itself, the module converted to the precision, with the references of the ops.

The tables of docs/precision.md are written from the result.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from lat_export.environment import provenance
from lat_export.families import FAMILIES
from lat_export.onnx_file import save
from lat_export.ops import StaticBounds
from lat_export.ops.contract import OPSET_VERSION
from lat_export.pipeline import export
from lat_export.precision import ELEMENT_TYPES, FLOAT32, HALF, POLICY, Rule, convert
from lat_export.stages.load import load
from lat_export.stages.signature import picked, wanted_groups
from lat_export.targets import PORTABLE_MODEL, BuildPlan, Subject
from lat_export.targets.half_on_cpu import compute_in_float32, typed
from lat_export.targets.lowering import CALLER, bounded, name_callers
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.tasks import TASKS
from lat_export.types import ModelSpec
from lat_export.validation.check import Judge, check_subject, usual_norm, usual_sizes
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden, take_rows
from lat_export.validation.tolerance import RELATIVE_L2

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "precision.md"
PRECISIONS = ("fp16", "bf16")
# In the bodies of `lat` ops, where they are in half precision.
BODY_OPS = {"CastLike", "Concat", "Expand", "GatherElements", "Pad", "Reshape", "ScatterElements", "Slice", "Softmax"}
BODY_OPS |= {"Transpose", "Unsqueeze", "Where"}
SAMPLED = "yoso, sampled"
EVERY_PART, AS_EXPORTED, AS_RUN = "every part in half precision", "as exported", "as exported, as onnxruntime runs it"
PYTORCH = "PyTorch in this precision"
# No such op in ONNX.
NOT_TO_BE_HAD = {("convolutions", "bf16")}
# Ops of bodies that compute in float32, by what is said of them.
INSIDE = {
    "softmax": ("BandedWindowAttention", "GlobalTokenAttention", "FullAttention"),
    "norms, angle and power": ("BernoulliExpectation",),
    "softmax and pseudo-inverse": ("NystromAttention",),
}
NO_ROUNDING = ("Cast", "CastLike", "Constant", "Identity", "If", "Where", "Reshape", "Transpose", "Expand", "Concat")


def rounded(program: ir.Model, precision: str) -> ir.Model:
    compute_in_float32(program, ir.DataType[ELEMENT_TYPES[precision]])
    return program


def every_part(model: Path, precision: str, kept: tuple[str, ...] = ()) -> ir.Model:
    program = bounded(model, StaticBounds())
    convert(program, precision, kept=kept)
    return rounded(program, precision)


def without(rule: Rule) -> Callable[[Path, str], ir.Model]:
    """Every part in half precision, and one line of the policy turned round: its ops, too."""

    def write(model: Path, precision: str) -> ir.Model:
        program = bounded(model, StaticBounds())
        convert(program, precision, [replace(rule, computed_in=HALF), *POLICY])
        if rule.name == "normalisation":
            _each(program.graph, "LayerNormalization", _layer_norm)
        return rounded(program, precision)

    return write


def inside(ops: tuple[str, ...]) -> Callable[[Path, str], ir.Model]:
    """Every part in half precision, and in the bodies of these ops every number rounded."""

    def write(model: Path, precision: str) -> ir.Model:
        program = bounded(model, StaticBounds())
        opened = Rule("", tuple(f"lat::{op}" for op in ops), HALF, "")
        convert(program, precision, [opened, *POLICY])
        name_callers(program)
        callers = {node.name for node in program.graph if node.op_type in ops}
        typed(program)
        within = {node for node in program.graph if node.metadata_props.get(CALLER) in callers}
        for node in within:
            if node.op_type == "Softmax":
                _spell_out(program.graph, node, _softmax)
        half = ir.DataType[ELEMENT_TYPES[precision]]
        for node in list(program.graph):
            if node.metadata_props.get(CALLER) in callers and node.op_type not in NO_ROUNDING:
                _round_outputs(program.graph, node, half)
        return rounded(program, precision)

    return write


def weights_only(model: Path, precision: str) -> ir.Model:
    """In float32, with the weights that the policy narrows rounded."""
    half, program = ir.load(model), ir.load(model)
    convert(half, precision)
    for name, value in half.graph.initializers.items():
        if name.endswith(f".{precision}"):
            whole = program.graph.initializers[name.removesuffix(f".{precision}")]
            assert value.const_value is not None
            whole.const_value = ir.tensor(value.const_value.numpy().astype("float32"), name=whole.name)
    return program


def _round_outputs(graph: ir.Graph, node: ir.Node, half: ir.DataType) -> None:
    for value in node.outputs:
        if value.dtype != ir.DataType.FLOAT:
            continue
        low = ir.node("Cast", [value], {"to": half}, name=f"{value.name}/low")
        back = ir.node("Cast", [low.outputs[0]], {"to": ir.DataType.FLOAT}, name=f"{value.name}/back")
        for cast, kind in ((low, half), (back, ir.DataType.FLOAT)):
            cast.outputs[0].name, cast.outputs[0].type = cast.name, ir.TensorType(kind)
        ir.convenience.replace_all_uses_with(value, back.outputs[0], replace_graph_outputs=True)
        low.replace_input_with(0, value)
        graph.insert_after(node, [low, back])


def _each(graph: ir.Graph, op: str, write: Callable[[ir.tape.Tape, ir.Node], ir.Value]) -> None:
    for node in list(graph):
        if node.op_type == op:
            _spell_out(graph, node, write)


def _spell_out(graph: ir.Graph, node: ir.Node, write: Callable[[ir.tape.Tape, ir.Node], ir.Value]) -> None:
    """Put in place of a node what it stands for, op by op, each of the node's own element type."""
    tape, old = ir.tape.Tape(), node.outputs[0]
    new = write(tape, node)
    for index, made in enumerate(tape.nodes):
        made.name = f"{node.name}/{index}"
        made.outputs[0].name, made.outputs[0].type = made.name, old.type
        made.metadata_props.update(node.metadata_props)
    for value in tape.initializers:
        graph.register_initializer(value)
    graph.insert_before(node, tape.nodes)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node)


def _axis(tape: ir.tape.Tape, node: ir.Node) -> ir.Value:
    return tape.initializer(ir.tensor([-1], name=f"{node.name}.axis"), name=f"{node.name}.axis")


def _layer_norm(tape: ir.tape.Tape, node: ir.Node) -> ir.Value:
    rows, weight, bias = node.inputs
    axis, name = _axis(tape, node), f"{node.name}.epsilon"
    epsilon = ir.tensor(node.attributes["epsilon"].as_float(), dtype=node.outputs[0].dtype, name=name)
    small = tape.initializer(epsilon, name=name)
    centred = tape.op("Sub", [rows, tape.op("ReduceMean", [rows, axis])])
    variance = tape.op("ReduceMean", [tape.op("Mul", [centred, centred]), axis])
    unit = tape.op("Div", [centred, tape.op("Sqrt", [tape.op("Add", [variance, small])])])
    return tape.op("Add", [tape.op("Mul", [unit, weight]), bias])


def _softmax(tape: ir.tape.Tape, node: ir.Node) -> ir.Value:
    (scores,), axis = node.inputs, _axis(tape, node)
    powers = tape.op("Exp", [tape.op("Sub", [scores, tape.op("ReduceMax", [scores, axis])])])
    return tape.op("Div", [powers, tape.op("ReduceSum", [powers, axis])])


def errors_of(model: Path, golden: Golden, precision: str) -> list[float]:
    """Relative L2 of every output of every case; infinite where it has NaN or Inf."""
    subject = Subject(model.name, lambda: open_runner(model, golden.signature), BuildPlan({}))
    return [
        row.relative_l2 for row in check_subject(subject, golden, golden.signature, Judge(precision=precision)).rows
    ]


def errors_of_pytorch(checkpoint: Path, golden: Golden, precision: str) -> list[float]:
    import torch

    loaded = load(ModelSpec(str(checkpoint), "onnx", checkpoint))
    swapped = loaded.checkpoint.family.swapped(loaded.model, loaded.checkpoint.options).eval()
    module = swapped.to({"fp16": torch.float16, "bf16": torch.bfloat16}[precision])
    usual, found = usual_sizes(golden), []
    for case in golden:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in case.inputs.items()}
            outputs = module(**tensors, **wanted_groups(golden.signature))
        whole = {spec.name: picked(outputs, spec.name).float().numpy() for spec in golden.signature.outputs}
        for name, output in take_rows(whole, case.rows, golden.signature).items():
            reference = case.outputs[name]
            found.append(difference(output, reference, usual_norm(reference, usual[name])).relative_l2)
    return found


def programs(ops: set[str], precision: str) -> Iterator[tuple[str, Callable[[Path, str], ir.Model]]]:
    """By name, those that say something of a model with these op types; `lat` ops without their domain."""
    yield EVERY_PART, every_part
    yield "weights rounded, nothing else", weights_only
    for rule in POLICY:
        if (rule.name, precision) in NOT_TO_BE_HAD:
            continue
        if rule.computed_in == FLOAT32 and ops & {op.rpartition("::")[2] for op in rule.ops}:
            yield f"{rule.name} in half precision", without(rule)
    for what, names in INSIDE.items():
        if ops & set(names):
            yield f"{what} inside of the op in half precision", inside(names)


def parts_kept(checkpoint: Path, precision: str, scratch: Path) -> tuple[str, ...]:
    """What `--keep-fp32 auto` finds; of sampled attention it knows how far flipped codes move the outputs."""
    spec = ModelSpec(str(checkpoint), "onnx", scratch / "kept", precision=precision, force=True)
    return export(spec).bundle.kept_in_fp32


def measure(
    bundle: Path, checkpoint: Path, precision: str, kept: tuple[str, ...], scratch: Path
) -> dict[str, list[float]]:
    model, golden = bundle / PORTABLE_MODEL, Golden(bundle)
    found = {}
    for name, write in programs({node.op_type for node in ir.load(model).graph}, precision):
        path = scratch / "program.onnx"
        save(write(model, precision), path)
        found[name] = errors_of(path, golden, precision)
    found[AS_EXPORTED] = found[EVERY_PART]
    if kept:
        save(every_part(model, precision, kept), scratch / "kept.onnx")
        found[AS_EXPORTED] = errors_of(scratch / "kept.onnx", golden, precision)
    # What an export is judged by: onnxruntime runs bfloat16 with every value rounded, float16 with fewer.
    found[AS_RUN] = found[AS_EXPORTED]
    if precision == "fp16":
        program = bounded(model, StaticBounds())
        convert(program, precision, kept=kept)
        save(program, scratch / "stock.onnx")
        found[AS_RUN] = errors_of(scratch / "stock.onnx", golden, precision)
    found[PYTORCH] = errors_of_pytorch(checkpoint, golden, precision)
    return found


def root_mean_square(errors: list[float]) -> float:
    return math.sqrt(statistics.fmean(error**2 for error in errors))


def figures(errors: list[float], band: float) -> dict[str, Any]:
    finite = [error for error in errors if error < float("inf")]
    return {
        "worst": max(finite) if len(finite) == len(errors) else "NaN or Inf",
        "rms": root_mean_square(errors) if len(finite) == len(errors) else "NaN or Inf",
        "median": statistics.median(errors) if statistics.median(errors) < float("inf") else "NaN or Inf",
        "above_the_band": sum(error > band for error in errors),
        "of": len(errors),
    }


def checkpoints(work: Path) -> Iterator[tuple[str, str, Path]]:
    """Family, task and folder; of YOSO a sampled one, too: its hash codes are what may flip."""
    for family in FAMILIES:
        for task in TASKS:
            yield family, task, ROOT / "golden" / family / task / "checkpoint"
    yield SAMPLED, "fill-mask", _sampled(work)


def _sampled(work: Path) -> Path:
    import shutil

    folder = work / "sampled"
    if not folder.is_dir():
        shutil.copytree(ROOT / "golden" / "yoso" / "fill-mask" / "checkpoint", folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "use_expectation": False, "num_hash": 8}))
    return folder


def policy_table() -> list[str]:
    lines = ["| what | ops | computed in | why |", "|---|---|---|---|"]
    for rule in POLICY:
        ops = ", ".join(f"`{op}`" for op in rule.ops) + (f" of `{rule.module}`" if rule.module else "")
        lines.append(f"| {rule.name} | {ops} | {rule.computed_in} | {rule.reason} |")
    return lines


def error_table(result: dict[str, Any]) -> list[str]:
    lines = ["| family | precision | program | worst | rms | above the band |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        for name, found in row["errors"].items():
            worst, rms = _told(found["worst"]), _told(found["rms"])
            above = f"{found['above_the_band']} of {found['of']}"
            lines.append(f"| {row['family']} | {row['precision']} | {name} | {worst} | {rms} | {above} |")
    return lines


def task_table(result: dict[str, Any]) -> list[str]:
    titles = ("family", "task", "precision", "band", "every part", "in fp32", "as exported", "onnxruntime", "PyTorch")
    lines = [_row(titles), _row("---" for _ in titles)]
    for row in result["tasks"]:
        every, exported, run, pytorch = (
            _told(row["errors"][name]["worst"]) for name in (EVERY_PART, AS_EXPORTED, AS_RUN, PYTORCH)
        )
        kept = ", ".join(f"`{part}`" for part in row["kept"]) or "none"
        band = f"{RELATIVE_L2[row['precision']]:.0e}"
        lines.append(_row((row["family"], row["task"], row["precision"], band, every, kept, exported, run, pytorch)))
    return lines


def _told(error: float | str) -> str:
    """An error that is not finite is told in words already."""
    return error if isinstance(error, str) else f"{error:.1e}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def kernel_table() -> list[str]:
    """Of the standard ops on the way, which types onnxruntime's CPU provider has a kernel for."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    known: dict[str, set[str]] = {}
    for kernel in onnxruntime_pybind11_state.get_all_opkernel_def():
        if (
            kernel.provider == "CPUExecutionProvider"
            and kernel.domain == ""
            and kernel.version_range[1] >= OPSET_VERSION
        ):
            known.setdefault(kernel.op_name, set()).update(*kernel.type_constraints.values())
    ops = sorted({op for rule in POLICY for op in rule.ops if "::" not in op} | BODY_OPS)
    lines = ["| op | float16 | bfloat16 |", "|---|---|---|"]
    for op in ops:
        cells = ("yes" if f"tensor({kind})" in known.get(op, ()) else "no" for kind in ("float16", "bfloat16"))
        lines.append(f"| {op} | {' | '.join(cells)} |")
    return lines


def write_page(result: dict[str, Any]) -> None:
    blocks = {
        "policy": policy_table(),
        "errors": error_table(result),
        "tasks": task_table(result),
        "kernels": kernel_table(),
    }
    text = PAGE.read_text()
    for name, lines in blocks.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "half_precision.json")
    parser.add_argument("--work", type=Path, help="Folder for float32 bundles, kept for another run.")
    parser.add_argument("--page", action="store_true", help="Only write docs/precision.md.")
    arguments = parser.parse_args()
    if arguments.page:
        write_page(json.loads(arguments.out.read_text()))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        work = arguments.work or scratch / "work"
        work.mkdir(parents=True, exist_ok=True)
        errors: dict[tuple[str, str], dict[str, list[float]]] = {}
        by_task = []
        for family, task, checkpoint in checkpoints(work):
            bundle = work / f"{family}-{task}"
            if not bundle.is_dir():
                export(ModelSpec(str(checkpoint), "onnx", bundle))
            for precision in PRECISIONS:
                kept = parts_kept(checkpoint, precision, scratch)
                found = measure(bundle, checkpoint, precision, kept, scratch)
                for name, listed in found.items():
                    errors.setdefault((family, precision), {}).setdefault(name, []).extend(listed)
                told = {name: figures(listed, RELATIVE_L2[precision]) for name, listed in found.items()}
                by_task.append({"family": family, "task": task, "precision": precision, "kept": kept, "errors": told})
                print(family, task, precision, kept, told[AS_EXPORTED], flush=True)
    rows = [
        {
            "family": family,
            "precision": precision,
            "band": RELATIVE_L2[precision],
            "errors": {name: figures(listed, RELATIVE_L2[precision]) for name, listed in found.items()},
        }
        for (family, precision), found in errors.items()
    ]
    result = {**provenance(), "rows": rows, "tasks": by_task}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    write_page(result)


if __name__ == "__main__":
    main()
