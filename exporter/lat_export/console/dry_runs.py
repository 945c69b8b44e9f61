"""How a dry run looks in a terminal: what was found first, then the figures, the verdict last."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lat_export.console.facts import describe_forms
from lat_export.console.terminal import out, size, table, whole_lines

if TYPE_CHECKING:
    from lat_export.dry_run import DryRun, Finding

ERROR = "error"


def print_dry_run(found: DryRun) -> None:
    """Everything but the list of all nodes, which --json has."""
    out("", _nodes(found))
    whole_lines(_facts(found))
    for finding in found.findings:
        whole_lines(["", *_finding(finding)])
    whole_lines(["", _verdict(found)])


def _nodes(found: DryRun) -> object:
    """Nodes by kind and op."""
    ops = Counter((node.kind, node.op, node.in_body) for node in found.nodes)
    kinds = Counter((node.kind, node.in_body) for node in found.nodes)
    rows = [
        (kind, str(count), "function bodies" if in_body else "graph", _most(ops, kind, in_body))
        for (kind, in_body), count in kinds.items()
    ]
    return table(("the parser takes as", "nodes", "of the", "ops"), rows, ("nodes",))


def _most(ops: Counter[tuple[str, str, bool]], kind: str, in_body: bool) -> str:
    of_kind = [(op, count) for (k, op, body), count in ops.most_common() if (k, body) == (kind, in_body)]
    shown = ", ".join(f"{op} {count}" for op, count in of_kind[:8])
    return shown + (f", {len(of_kind) - 8} more ops" if len(of_kind) > 8 else "")


def _facts(found: DryRun) -> list[str]:
    sizes = ", ".join(f"{dim} {text}" for dim, text in found.plan.sizes.items())
    bound = found.plan.max_global
    memory = found.memory
    lines = [
        f"rules: {found.rules.source}",
        f"attention: {describe_forms(found.forms)}",
        f"profile: {sizes}" + (f", at most {bound} global tokens a row" if bound is not None else ""),
        f"memory at the largest sizes: weights {size(memory.weights_bytes)}, activations about "
        f"{size(memory.activations_bytes)} (most at {memory.largest_at or 'no node'}), inputs and outputs "
        f"{size(memory.bindings_bytes)}; workspace of kernels not counted",
    ]
    library = found.library
    if library and library.built:
        lines.append(f"plugins: for TensorRT {library.major}, {', '.join(library.archs)}: {', '.join(library.ops)}")
    trial = found.trial
    if trial.built:
        figures = "".join(f", {name.lower()} {size(count)}" for name, count in trial.memory.items())
        lines.append(
            f"TensorRT-RTX {trial.version} built it in {trial.seconds:.1f} s: "
            f"engine {size(trial.engine_bytes)}{figures}"
        )
    return lines


def _finding(finding: Finding) -> list[str]:
    lines = [f"{finding.severity}: {finding.what}"]
    if finding.node:
        lines.append(f"  node: {finding.node}")
    lines += [f"  {name}: {text}" for name, text in (("got", finding.got), ("expected", finding.expected)) if text]
    return lines + ([f"  mend: {finding.mend}"] if finding.mend else [])


def _verdict(found: DryRun) -> str:
    errors = sum(finding.severity == ERROR for finding in found.findings)
    if found.works:
        return f"the build would work, as far as the rules tell ({found.rules.engine})"
    return f"the build would not work: {errors} error{'s' * (errors > 1)}"
