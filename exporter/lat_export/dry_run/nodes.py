"""How a parser takes each node, by the rules of onnx-tensorrt, in their order:

1. a plugin, where the node names a `plugin_namespace` and one of its name is registered there;
2. the parser's built-in importer of that op type, whatever the node's domain;
3. the model's local function of that domain and name, whose nodes go by the same rules;
4. a plugin of that name;
5. nothing: the node is unknown, and the build ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lat_export.dry_run.findings import ERROR, WARNING, Finding
from lat_export.dry_run.importers import Importers
from lat_export.ops import DOMAIN
from lat_export.targets.lowering import CALLER

if TYPE_CHECKING:
    import onnx_ir as ir

PLUGIN, BUILT_IN, FUNCTION, UNKNOWN = "plugin", "built-in", "local function", "unknown"
KINDS = (PLUGIN, BUILT_IN, FUNCTION, UNKNOWN)
STANDARD_DOMAINS = ("", "ai.onnx")
OTHER_DOMAINS = {
    "com.microsoft": "onnxruntime made this node: give the model as it was before its optimisation (model.onnx)",
    DOMAIN: "export the model again: lat-export puts the function body of every lat op into the file",
}
REWRITE = "put it in ops that {engine} imports, or give the model a local function of that domain and name"


@dataclass(frozen=True)
class NodeKind:
    """One node of the lowered graph.

    Attributes:
        name: of a node in a function body, the name of a node that calls it, a slash, and the op with its place.
        op: with its domain, where it has one.
        kind: of `KINDS`.
        in_body: whether it is a node of a function body or of a subgraph.
    """

    name: str
    op: str
    kind: str
    in_body: bool = False


def classify(program: ir.Model, table: Importers, registered: frozenset[str]) -> list[NodeKind]:
    """Every node of `program`, and once every node of each function that is imported.

    Args:
        registered: op types of the registered plugins, all of namespace `lat`.
    """
    return list(_Classifier(program, table, registered).of(program.graph, "", in_body=False))


class _Classifier:
    def __init__(self, program: ir.Model, table: Importers, registered: frozenset[str]) -> None:
        self._functions, self._table, self._registered = program.functions, table, registered
        self._entered: set[tuple[str, str, str]] = set()

    def kind(self, node: ir.Node) -> str:
        namespace = node.attributes.get("plugin_namespace")
        if namespace is not None and namespace.value == DOMAIN and node.op_type in self._registered:
            return PLUGIN
        if node.op_type in self._table:
            return BUILT_IN
        if node.op_identifier() in self._functions:
            return FUNCTION
        return PLUGIN if node.domain == DOMAIN and node.op_type in self._registered else UNKNOWN

    def of(self, nodes: ir.Graph | ir.Function, where: str, *, in_body: bool) -> Iterator[NodeKind]:
        for index, node in enumerate(nodes):
            name = where + _own_name(node, index, in_body=in_body)
            kind = self.kind(node)
            yield NodeKind(name, f"{node.domain}::{node.op_type}" if node.domain else node.op_type, kind, in_body)
            if kind == FUNCTION and node.op_identifier() not in self._entered:
                self._entered.add(node.op_identifier())
                yield from self.of(self._functions[node.op_identifier()], f"{name}/", in_body=True)
            for graph in subgraphs(node):
                yield from self.of(graph, f"{name}/", in_body=True)


def _own_name(node: ir.Node, index: int, *, in_body: bool) -> str:
    """Names of nodes of bodies are mostly numbers, so the op goes before them."""
    number = f"{node.op_type} ({node.name or f'node {index}'})"
    caller = node.metadata_props.get(CALLER)
    if caller:
        return f"{caller}/{number}"
    return number if in_body else node.name or number


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Branches and loop bodies of a node."""
    import onnx_ir as ir

    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def counts(kinds: list[NodeKind]) -> dict[str, int]:
    """Nodes by kind, every kind of `KINDS`, those of bodies too."""
    found = Counter(node.kind for node in kinds)
    return {kind: found[kind] for kind in KINDS}


def node_findings(kinds: list[NodeKind], table: Importers) -> Iterator[Finding]:
    """Every node that the parser does not know, and every one that it takes for another op."""
    for node in kinds:
        domain, _, name = node.op.rpartition("::")
        if node.kind == UNKNOWN:
            mend = OTHER_DOMAINS.get(domain, REWRITE.format(engine=table.engine))
            yield Finding(
                ERROR,
                "unknown op",
                f"the parser of {table.engine} knows no {node.op}",
                node.name,
                node.op,
                f"an op of {table.source}, a local function of the model, or a registered plugin",
                mend,
            )
        elif node.kind == BUILT_IN and domain not in STANDARD_DOMAINS:
            yield Finding(
                WARNING,
                "name of a standard op",
                f"the parser of {table.engine} takes {node.op} for the standard op {name}: it looks at no domain",
                node.name,
                node.op,
                mend="give the op a name that no standard op has",
            )
