"""What a dry run tells. Its JSON form is described by dry_run.schema.json beside this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lat_export.dry_run.findings import ERROR, Finding
from lat_export.dry_run.importers import Importers
from lat_export.dry_run.memory import MemoryEstimate
from lat_export.dry_run.nodes import FUNCTION, NodeKind, counts
from lat_export.dry_run.plugin_rules import PluginLibrary
from lat_export.targets import BuildPlan
from lat_export.types import BODY, PLUGIN

VERSION = 1


@dataclass(frozen=True)
class Trial:
    """A build for real, in scratch, with TensorRT-RTX.

    Attributes:
        missing: why there was none; "" where there was one.
        errors: why it gave no engine.
        memory: figures that the builder logs, in bytes, by its own names.
    """

    missing: str = ""
    version: str = ""
    seconds: float = 0.0
    engine_bytes: int = 0
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def built(self) -> bool:
        return not self.missing and not self.errors

    def to_json(self) -> dict[str, Any]:
        return {"built": self.built, **vars(self), "errors": list(self.errors), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class DryRun:
    """
    Attributes:
        model: as the user gave it.
        target: name on the command line.
        nodes: every node of the lowered graph, and of each imported function.
        lat_nodes: op by node name, of the portable graph.
        library: None where the engine has no plugins.
    """

    model: str
    target: str
    rules: Importers
    plan: BuildPlan
    nodes: tuple[NodeKind, ...]
    lat_nodes: dict[str, str]
    library: PluginLibrary | None
    memory: MemoryEstimate
    trial: Trial
    findings: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        """Whether nothing speaks against the build."""
        return all(finding.severity != ERROR for finding in self.findings)

    @property
    def forms(self) -> dict[str, str]:
        """What would run each `lat` node, by its name."""
        registered = self.library.registered if self.library else frozenset()
        return {name: PLUGIN if op in registered else BODY for name, op in self.lat_nodes.items()}

    @property
    def top_nodes(self) -> list[NodeKind]:
        """Nodes of the graph itself, without those of bodies."""
        return [node for node in self.nodes if not node.in_body]

    @property
    def functions(self) -> int:
        """Nodes that a function body runs."""
        return sum(node.kind == FUNCTION for node in self.top_nodes)

    def to_json(self) -> dict[str, Any]:
        library = self.library
        return {
            "dry_run": VERSION,
            "works": self.works,
            "model": self.model,
            "target": self.target,
            "rules": {"engine": self.rules.engine, "version": self.rules.version, "source": self.rules.source},
            "profile": {
                "sizes": {dim: str(sizes) for dim, sizes in self.plan.sizes.items()},
                "max_global": self.plan.max_global,
            },
            "counts": counts(list(self.nodes)),
            "nodes": [
                {"name": node.name, "op": node.op, "kind": node.kind, "in_body": node.in_body} for node in self.nodes
            ],
            "forms": self.forms,
            "plugins": library and {**vars(library), "ops": list(library.ops), "archs": list(library.archs)},
            "memory": self.memory.to_json(),
            "tensorrt_rtx": self.trial.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
        }
