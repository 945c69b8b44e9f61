"""What a custom op is: one contract, from which its PyTorch, ONNX and error forms are made.

An op is a node of domain `lat`. While torch.onnx traces, calling it writes that node; anywhere else it computes the
PyTorch reference. The ONNX function body makes the node run where no native kernel is at hand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, ShapeError

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from lat_export.ops.body import BodyBuilder

DOMAIN = "lat"
DOMAIN_VERSION = 1
OPSET_VERSION = 20
# TensorRT takes a registered plugin for a node only where the node itself names the plugin's namespace.
PLUGIN_ATTRIBUTES = {"plugin_namespace": DOMAIN, "plugin_version": "1"}

FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Port:
    """One input of an op.

    Attributes:
        dims: letters of the glossary (B, N, E, H, D, ...); one letter means one size in the whole call.
        dtypes: accepted element types; float64 only in the PyTorch reference.
    """

    name: str
    dims: tuple[str, ...]
    dtypes: tuple[str, ...] = FLOATS


@dataclass(frozen=True)
class Attribute:
    """One attribute of an op.

    Attributes:
        minimum: smallest accepted value, exclusive for floats, inclusive for integers.
        dim: the letter that this attribute gives a size to, if any.
        maximum: largest accepted value, inclusive.
        default: what it is where a node or a call does not have it; None where each must have it.
    """

    name: str
    kind: type[int] | type[float]
    minimum: float
    dim: str | None = None
    maximum: float = math.inf
    default: float | None = None


@dataclass(frozen=True)
class StaticBounds:
    """Sizes fixed at export for a target whose shapes cannot depend on data; None where they may.

    Attributes:
        max_global: most global tokens in a row; a row with more would be computed wrongly, so runners refuse it.
    """

    max_global: int | None = None

    def with_room_for_one(self) -> StaticBounds:
        """For outputs that have a column a global token, which an engine cannot give without any."""
        return self if self.max_global is None else StaticBounds(max(1, self.max_global))


Reference = Callable[..., "torch.Tensor"]
Body = Callable[["BodyBuilder", StaticBounds], "onnx_ir.Value"]
Rule = Callable[[dict[str, int], dict[str, Any]], None]


def heads_divide_width(sizes: dict[str, int], attributes: dict[str, Any]) -> None:
    """The rule that every op shares: E = H * D."""
    if sizes["E"] % attributes["num_heads"]:
        raise ShapeError(
            "the hidden size must be a multiple of num_heads",
            got=f"E={sizes['E']}, num_heads={attributes['num_heads']}",
            expected="E % num_heads == 0",
        )


@dataclass(frozen=True)
class Op:
    """The contract of one op and its forms that need no compiler. The output has the first input's dtype.

    Attributes:
        reference: plain PyTorch over the inputs in order, attributes as keywords; any float dtype, float64 included.
        body: writes the standard-ONNX form into a `BodyBuilder` and returns the output value.
        rules: checks on sizes beyond ranks and equal letters.
        output_dims: letters of the output, where it is not shaped like the first input; a letter that no input and no
            attribute has is a size that depends on data.
    """

    name: str
    inputs: tuple[Port, ...]
    attributes: tuple[Attribute, ...]
    reference: Reference
    body: Body
    rules: tuple[Rule, ...] = field(default=(heads_divide_width,))
    output_dims: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The name in snake case, which its file, its folder of native code and its C and torch functions bear."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()

    @property
    def defaults(self) -> dict[str, Any]:
        """What attributes are that a node or a call need not have."""
        return {a.name: a.kind(a.default) for a in self.attributes if a.default is not None}

    def __call__(self, *inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        """Emit the node while torch.onnx traces, compute the reference otherwise."""
        import torch

        self.check_attributes(attributes)
        if torch.onnx.is_in_onnx_export():
            return self._node(inputs, attributes)
        self.check_inputs(inputs, attributes)
        return self.reference(*inputs, **attributes)

    def _node(self, inputs: tuple[torch.Tensor, ...], attributes: dict[str, Any]) -> torch.Tensor:
        import torch

        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{self.name}",
            inputs,
            {**attributes, **PLUGIN_ATTRIBUTES},
            dtype=inputs[0].dtype,
            shape=self._output_shape(inputs, attributes),
            version=DOMAIN_VERSION,
        )

    def _output_shape(
        self, inputs: tuple[torch.Tensor, ...], attributes: dict[str, Any]
    ) -> Sequence[int | torch.SymInt]:
        """As traced. A size that depends on data is given as 1: only outputs of the whole model have such."""
        if not self.output_dims:
            return inputs[0].shape
        sizes: dict[str, int | torch.SymInt] = {a.dim: int(attributes[a.name]) for a in self.attributes if a.dim}
        for port, tensor in zip(self.inputs, inputs, strict=True):
            sizes.update(zip(port.dims, tensor.shape, strict=True))
        return tuple(sizes.get(letter, 1) for letter in self.output_dims)

    def function(self, bounds: StaticBounds | None = None) -> onnx_ir.Function:
        """The ONNX function that gives the node its meaning in standard ops."""
        from lat_export.ops.body import BodyBuilder

        builder = BodyBuilder(self)
        return builder.finish(self.body(builder, bounds or StaticBounds()))

    def check_attributes(self, attributes: dict[str, Any]) -> None:
        """Raise `InputError` unless the contract's attributes are given, each within its bounds, and no others; those
        with a default may be absent."""
        known = {attribute.name: attribute for attribute in self.attributes}
        if not set(known) - set(self.defaults) <= set(attributes) <= set(known):
            optional = "".join(f", and {name} where wanted" for name in self.defaults)
            raise InputError(
                f"{DOMAIN}::{self.name} takes other attributes",
                got=sorted(attributes),
                expected=f"{sorted(set(known) - set(self.defaults))}{optional}",
            )
        for name, value in attributes.items():
            attribute = known[name]
            too_small = value < attribute.minimum if attribute.kind is int else value <= attribute.minimum
            if not isinstance(value, attribute.kind) or too_small or value > attribute.maximum:
                sign = ">=" if attribute.kind is int else ">"
                limit = "" if attribute.maximum == math.inf else f" and <= {attribute.maximum:g}"
                raise InputError(
                    f"attribute {name} of {DOMAIN}::{self.name} is out of range",
                    got=repr(value),
                    expected=f"{attribute.kind.__name__} {sign} {attribute.minimum:g}{limit}",
                )

    def check_inputs(self, inputs: tuple[torch.Tensor, ...], attributes: dict[str, Any]) -> None:
        """Raise `ShapeError` unless ranks, sizes and dtypes are the contract's."""
        if len(inputs) != len(self.inputs):
            raise ShapeError(f"{DOMAIN}::{self.name} takes {len(self.inputs)} inputs", got=len(inputs))
        sizes = {a.dim: int(attributes[a.name]) for a in self.attributes if a.dim}
        for port, tensor in zip(self.inputs, inputs, strict=True):
            where = {"op": f"{DOMAIN}::{self.name}", "input": port.name}
            dtype = str(tensor.dtype).removeprefix("torch.")
            if dtype not in port.dtypes:
                raise ShapeError("wrong dtype", got=dtype, expected=", ".join(port.dtypes), where=where)
            if tensor.ndim != len(port.dims):
                raise ShapeError("wrong rank", got=tuple(tensor.shape), expected=port.dims, where=where)
            for letter, size in zip(port.dims, tensor.shape, strict=True):
                if sizes.setdefault(letter, size) != size or size < 1:
                    expected = ", ".join(f"{d}={sizes.get(d, '?')}" for d in port.dims)
                    raise ShapeError(f"size {letter} differs", got=tuple(tensor.shape), expected=expected, where=where)
        for rule in self.rules:
            rule(sizes, attributes)
