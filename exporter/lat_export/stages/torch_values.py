"""Values inside the traced model, computed in PyTorch: one side of a search for a divergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lat_export.ops import DOMAIN, OPS
from lat_export.stages.trace import Traced
from lat_export.targets.onnx_values import steps_of

if TYPE_CHECKING:
    import numpy as np
    import torch


class TorchValues:
    """One side: what torch.export traced, interpreted node by node, `lat` nodes by the PyTorch references of their ops.

    Attributes:
        name: for reports.
        steps: the ONNX graph that was made from it.
        values: those that have one name in PyTorch and in that graph, outputs among them.
    """

    def __init__(self, traced: Traced, name: str) -> None:
        self.name = name
        self._exported = traced.exported
        self.steps = steps_of(traced.program)
        self._inputs = [str(value.name) for value in traced.program.graph.inputs]
        names = {node.name for node in self._exported.graph.nodes if node.op == "call_function"}
        made = {str(value.name) for node in traced.program.graph for value in node.outputs}
        # The exporter calls the graph's outputs by the signature's names.
        results = next(node for node in self._exported.graph.nodes if node.op == "output").args[0]
        outputs = (str(value.name) for value in traced.program.graph.outputs)
        self._own_name = {name: name for name in names & made}
        self._own_name.update(zip(outputs, (node.name for node in results), strict=True))
        self.values = frozenset(self._own_name)

    def __call__(
        self, inputs: dict[str, np.ndarray[Any, Any]], wanted: Sequence[str]
    ) -> dict[str, np.ndarray[Any, Any]]:
        import torch

        kept = {self._own_name[name] for name in wanted}
        with torch.no_grad():
            found = _interpret(self._exported, [torch.from_numpy(inputs[input_]) for input_ in self._inputs], kept)
        return {name: _array(found[self._own_name[name]]) for name in wanted}


def _array(value: Any) -> np.ndarray[Any, Any]:
    import numpy as np
    import torch

    return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _interpret(exported: torch.export.ExportedProgram, inputs: list[torch.Tensor], kept: set[str]) -> dict[str, Any]:
    """Run the program; the values called `kept`."""
    import torch

    found: dict[str, Any] = {}

    class Interpreter(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Any:
            value = super().run_node(node)
            if node.name in kept:
                found[node.name] = value
            return value

        def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if kwargs.get("domain") == DOMAIN:
                return _reference(args, kwargs)
            return super().call_function(target, args, kwargs)

    given = iter(inputs)
    user_input = torch.export.graph_signature.InputKind.USER_INPUT
    tensors = {**exported.state_dict, **exported.constants}
    arguments = [
        next(given) if spec.kind == user_input else tensors[str(spec.target)]
        for spec in exported.graph_signature.input_specs
    ]
    Interpreter(exported.graph_module).run(*arguments)
    return found


def _reference(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """A `lat` node as torch.onnx.ops.symbolic wrote it: inputs and op type by position, attributes by kind."""
    tensors, op_type = args[0], args[1]
    values = {"i": kwargs["attr_ints"], "f": kwargs["attr_floats"], "s": kwargs["attr_strs"]}
    attributes = {
        key: values[kind][start]
        for key, kind, (start, _) in zip(kwargs["attr_keys"], kwargs["attr_types"], kwargs["attr_pos"], strict=True)
    }
    op = OPS[op_type]
    own = {attribute.name for attribute in op.attributes}
    return op.reference(*tensors, **{key: value for key, value in attributes.items() if key in own})
