"""What is there: bundles, ONNX files, native ops, this machine, figures of a bench, answers of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lat_export.console.terminal import out, size, table, whole_lines

if TYPE_CHECKING:
    from lat_export.bench.result import BenchResult
    from lat_export.doctor import Finding
    from lat_export.inspection import OnnxFacts
    from lat_export.native import Plugins
    from lat_export.stages.bundle import Bundle
    from lat_export.targets import BuildPlan


def print_bench(result: BenchResult) -> None:
    """A table for each length and batch."""
    from lat_export.bench.table import COLUMNS, closing_lines, tables

    for one in tables(result):
        out(f"\n{one.title}", table(COLUMNS, one.rows, COLUMNS[1:]))
        whole_lines(one.notes)
    whole_lines(["", *closing_lines(result)])


def print_bundle(bundle: Bundle) -> None:
    """Files with sizes, and which form runs the attention."""
    manifest = bundle.manifest
    out(
        f"\n{bundle.folder}: {manifest['signature']['family']}, {manifest['signature']['task']}, "
        f"{manifest['target']}, {manifest['precision']}",
        table(
            ("file", "size", "role"),
            _files(manifest["files"]),
            ("size",),
        ),
    )
    out(f"\nattention: {describe_forms(bundle.forms)}")
    if bundle.kept_in_fp32:
        out(f"in fp32 all the same: {', '.join(bundle.kept_in_fp32)}")
    if bundle.plan.sizes:
        ranges = describe_profiles(bundle.plan)
        bound = manifest["plan"]["max_global"]
        engine = "engine to build for" if manifest.get("kit") else "engine built for"
        out(f"{engine}: {ranges}" + (f", at most {bound} global tokens a row" if bound is not None else ""))


def describe_profiles(plan: BuildPlan) -> str:
    """As "batch 1:1:8, sequence 1:512:4096", and of several profiles each one so."""
    return "; or ".join(", ".join(f"{dim} {text}" for dim, text in sizes.items()) for sizes in plan.texts)


def _files(files: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Name, size and role of every file; of a kit's folders of sources only the sums."""
    sums: dict[str, list[int]] = {}
    for name, entry in files.items():
        folder = name.partition("/")[0]
        if entry["role"] == "kit" and folder != name:
            sums.setdefault(folder, []).append(entry["bytes"])
        else:
            yield name, size(entry["bytes"]), entry["role"]
    yield from ((f"{folder}/ ({len(sizes)} files)", size(sum(sizes)), "kit") for folder, sizes in sums.items())


def describe_forms(forms: dict[str, str]) -> str:
    """As "6 lat nodes: 6 body"."""
    counts = Counter(forms.values())
    return f"{len(forms)} lat nodes: " + ", ".join(f"{count} {form}" for form, count in counts.items())


def print_onnx(facts: OnnxFacts) -> None:
    out(
        f"\n{facts.path.name}: {facts.nodes} nodes, {facts.parameters:,} parameters "
        f"({size(facts.parameter_bytes)}), {size(facts.file_bytes)} on disk, opsets "
        + ", ".join(f"{domain or 'onnx'} {version}" for domain, version in facts.opsets.items()),
        f"dynamic axes: {', '.join(facts.dynamic_axes) or 'none'}\n",
        table(("tensor", "type"), [*facts.inputs.items(), *facts.outputs.items()]),
        "",
        table(("op", "nodes"), ((op, str(count)) for op, count in facts.ops.items()), ("nodes",)),
    )


def print_lat_nodes(facts: OnnxFacts, forms: dict[str, str]) -> None:
    def form(name: str, node: dict[str, Any]) -> str:
        return forms.get(name, "body" if node["body"] else "native or plugin only: the file has no body")

    hidden = {"op", "body", "plugin_namespace", "plugin_version"}
    out(
        "",
        table(
            ("lat node", "runs as", "attributes"),
            (
                (name, form(name, node), ", ".join(f"{k}={v:.6g}" for k, v in node.items() if k not in hidden))
                for name, node in facts.lat_nodes.items()
            ),
        ),
    )


def print_plugins(found: Plugins | None) -> None:
    """Forms of every op, with or without native ones."""
    from lat_export.native import ADVICE
    from lat_export.ops import OPS

    unusable = found.unusable if found else None

    def row(name: str) -> tuple[str, str, str, str]:
        fields = ", ".join(attribute.name for attribute in OPS[name].attributes)
        if found is None or unusable:
            return name, "PyTorch reference, ONNX body", fields, "-"
        return name, ", ".join(_forms(OPS[name].stem, found)), fields, _gpu_run(OPS[name].stem, found)

    out(table(("op", "forms", "plugin fields", "on a GPU"), (row(name) for name in OPS)))
    if found is None:
        out(f"\nno native ops here: {ADVICE}")
        return
    if unusable:
        out(f"\n{found.folder}: {unusable}")
        return
    out("")
    print_plugin_files(found, f"; this processor takes {found.arch}")


def print_plugin_files(found: Plugins, processor: str = "") -> None:
    """What was built, for which devices, and what was left out."""
    out(f"{found.folder}: float32, float16, bfloat16")
    out(f"CPU: {', '.join(found.archs)}{processor}; {found.compiler}")
    if found.cuda:
        out(f"CUDA: {', '.join(found.cuda_archs)}; {found.cuda_compiler}")
    if found.tensorrt:
        out(f"TensorRT plugins: for TensorRT {found.tensorrt_major}")
    for what, why in found.left_out.items():
        out(f"left out: {what}: {why}")


def _forms(stem: str, found: Plugins) -> Iterator[str]:
    yield from ("PyTorch reference", "ONNX body")
    devices = ["CPU"] * (stem in found.kernels) + ["CUDA"] * (stem in found.cuda)
    if devices:
        engines = ["onnxruntime", "PyTorch"] if stem in found.onnxruntime else ["PyTorch"]
        yield from (f"{engine} ({', '.join(devices)})" for engine in engines)
    if stem in found.tensorrt:
        yield "TensorRT plugin"


def _gpu_run(stem: str, found: Plugins) -> str:
    if stem not in found.cuda:
        return "-"
    run = found.gpu_runs.get(stem)
    return f"{run['gpu']}, {run['date']}, commit {run['commit'][:7]}" if run else "never run"


def print_findings(findings: list[Finding]) -> None:
    out(
        table(
            ("part", "state", "enables"),
            ((finding.part, finding.state, finding.enables) for finding in findings),
        )
    )
    lacking = [finding for finding in findings if finding.advice]
    if lacking:
        out("", "to get what is missing:", *(f"  {finding.part}: {finding.advice}" for finding in lacking))


def print_answer(found: dict[str, Any]) -> None:
    """Whatever a task answers: ranked rows as tables, a choice as a line, tensors by their shape."""
    for name, value in found.items():
        ranked = value if name == "masks" else [value]
        if name in ("labels", "entities", "answers", "masks"):
            for rows in ranked:
                columns = tuple(rows[0]) if rows else ("nothing found",)
                out(table(columns, ([_cell(row[column]) for column in columns] for row in rows)))
        elif name in ("choice", "index", "scores"):
            out(f"{name}: {value if name != 'scores' else ', '.join(_cell(score) for score in value)}")
        else:
            shape = f"{len(value)} x {len(value[0])}" if isinstance(value[0], list) else f"{len(value)}"
            out(f"{name}: {shape} numbers; --json prints them")


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
