"""What half precision costs, and what it would cost without the islands in float32.

    python benchmarks/half_precision.py

Every golden checkpoint that has such an op, on all its golden cases, in onnxruntime on the CPU, where each op computes in
float32 and rounds its outputs to the precision. Three programs: as exported; with every op's body wholly in half
precision, no softmax, norm, inverse or sum in float32; and with the LayerNormalizations' mean and variance in it, too.
The error is the worst relative L2 of an output to PyTorch in float32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from lat_export.environment import provenance
from lat_export.onnx_file import save
from lat_export.ops import StaticBounds
from lat_export.pipeline import export
from lat_export.precision import convert
from lat_export.targets import PORTABLE_MODEL, BuildPlan, Subject
from lat_export.targets.lowering import with_static_bounds
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec
from lat_export.validation.check import Judge, check_subject
from lat_export.validation.golden import Golden

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = {
    "Longformer": ROOT / "golden/longformer/fill-mask/checkpoint",
    "Nystroemformer": ROOT / "golden/nystromformer/fill-mask/checkpoint",
    "YOSO": ROOT / "golden/yoso/fill-mask/checkpoint",
}
MOST_GLOBALS = 300
BOUNDS = StaticBounds(max_global=MOST_GLOBALS)
PROGRAMS = ("as exported", "bodies in half precision", "LayerNormalization, too")


def in_half(model: Path, precision: str, *, statistics: bool) -> ir.Model:
    """The float32 model with bodies in place of nodes, and all of it in half precision."""
    from onnx_ir.passes.common import ShapeInferencePass

    program = ir.load(with_static_bounds(model, model.with_name("inlined.onnx"), BOUNDS, inlined=True))
    if statistics:
        spell_out_layer_norms(program)
    ShapeInferencePass()(program)
    convert(program, precision, policy=())
    return program


def spell_out_layer_norms(program: ir.Model) -> None:
    """Mean, variance and division as ops of their own, each rounded, instead of inside of one op in float32."""
    for node in list(program.graph):
        if node.op_type != "LayerNormalization":
            continue
        rows, weight, bias = node.inputs
        epsilon = ir.tensor(node.attributes["epsilon"].as_float(), name=f"{node.name}.epsilon")
        tape = ir.tape.Tape()
        small = tape.initializer(epsilon, name=epsilon.name)
        axis = tape.initializer(ir.tensor([-1], name=f"{node.name}.axis"), name=f"{node.name}.axis")
        centred = tape.op("Sub", [rows, tape.op("ReduceMean", [rows, axis])])
        variance = tape.op("ReduceMean", [tape.op("Mul", [centred, centred]), axis])
        unit = tape.op("Div", [centred, tape.op("Sqrt", [tape.op("Add", [variance, small])])])
        output = tape.op("Add", [tape.op("Mul", [unit, weight]), bias])
        for index, made in enumerate(tape.nodes):
            made.name = f"{node.name}/{index}"
            made.outputs[0].name = f"{node.name}/value_{index}"
        for value in tape.initializers:
            program.graph.register_initializer(value)
        program.graph.insert_before(node, tape.nodes)
        ir.convenience.replace_all_uses_with(node.outputs[0], output, replace_graph_outputs=True)
        program.graph.remove(node)


def worst(model: Path, golden: Golden, precision: str) -> float:
    """Worst relative L2 of an output over the cases; infinite where one is NaN or Inf."""
    subject = Subject(model.name, lambda: open_runner(model, golden.signature), BuildPlan({}, MOST_GLOBALS))
    report = check_subject(subject, golden, golden.signature, Judge(precision=precision))
    return max(row.relative_l2 for row in report.rows)


def measure(family: str, checkpoint: Path, precision: str, folder: Path) -> dict[str, Any]:
    half = export(ModelSpec(str(checkpoint), "onnx", folder / "half", precision=precision, validate=False))
    whole = export(ModelSpec(str(checkpoint), "onnx", folder / "whole"))
    golden = Golden(whole.bundle.folder)
    errors = {PROGRAMS[0]: worst(half.bundle.folder / PORTABLE_MODEL, golden, precision)}
    for program, statistics in zip(PROGRAMS[1:], (False, True), strict=True):
        path = folder / "rewritten.onnx"
        save(in_half(whole.bundle.folder / PORTABLE_MODEL, precision, statistics=statistics), path)
        errors[program] = worst(path, golden, precision)
    return {"family": family, "precision": precision, "worst_relative_l2": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "half_precision.json")
    arguments = parser.parse_args()
    rows = []
    for family, checkpoint in CHECKPOINTS.items():
        for precision in ("fp16", "bf16"):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(family, checkpoint, precision, Path(folder)))
            print(rows[-1], flush=True)
    arguments.out.write_text(json.dumps({**provenance(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
