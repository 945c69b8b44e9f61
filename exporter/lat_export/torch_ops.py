"""The ops as operators of PyTorch: `torch.ops.lat.<op>`, in the dispatcher like any other.

On every device they compute the op's PyTorch reference, and are differentiable as that is. On the CPU and on CUDA
devices another implementation can be put in its place for a while (`lat_export.native.kernels`), which is forward only.
FakeTensors get shapes from the contract alone, so torch.export and torch.compile see one node, whatever runs it.

Nothing in an export goes through here: a model's modules call the op itself (`OPS[name]`), and so does what computes
golden tensors. A reference that could be switched to a kernel would prove nothing about that kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.ops import DOMAIN, OPS
from lat_export.ops.contract import Op

if TYPE_CHECKING:
    import torch

Implementation = Callable[..., "torch.Tensor"]

# What runs an op on a device now instead of the reference: by "cpu" or "cuda", and the op's ONNX name. Empty unless
# someone fills it.
instead: dict[tuple[str, str], Implementation] = {}


@cache
def define() -> Any:
    """Define `torch.ops.lat.*`, an operator an op, named as its file; once a process.

    Returns:
        The `torch.library.Library`, which must live as long as they are wanted.
    """
    import torch

    library: Any = torch.library.Library(DOMAIN, "DEF")  # type: ignore[no-untyped-call]
    for op in OPS.values():
        library.define(schema(op))
        library.impl(op.stem, _reference(op), "CompositeExplicitAutograd")
        for device in ("cpu", "cuda"):
            library.impl(op.stem, _on_device(op, device), device.upper())
        library.impl(op.stem, _autograd(op), "Autograd")
        torch.library.register_fake(f"{DOMAIN}::{op.stem}", _fake(op), lib=library)
    return library


def schema(op: Op) -> str:
    """As `banded_window_attention(Tensor query, ..., *, int num_heads, float scale, int allow_tf32=0) -> Tensor`."""
    tensors = [f"Tensor {port.name}" for port in op.inputs]
    attributes = [f"{attribute.kind.__name__} {attribute.name}" for attribute in op.attributes]
    attributes = [
        f"{text}={op.defaults[a.name]}" if a.name in op.defaults else text
        for a, text in zip(op.attributes, attributes, strict=True)
    ]
    return f"{op.stem}({', '.join([*tensors, '*', *attributes])}) -> Tensor"


def _reference(op: Op) -> Implementation:
    def compute(*inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        op.check_attributes(attributes)
        op.check_inputs(inputs, attributes)
        return op.reference(*inputs, **attributes)

    return compute


def _on_device(op: Op, device: str) -> Implementation:
    reference = _reference(op)

    def compute(*inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        return instead.get((device, op.name), reference)(*inputs, **attributes)

    return compute


def _autograd(op: Op) -> Implementation:
    reference = _reference(op)

    def compute(*inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        import torch

        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            if (inputs[0].device.type, op.name) in instead:
                raise InputError(
                    f"the native form of {DOMAIN}::{op.name} computes no gradients",
                    got=", ".join(p.name for p, t in zip(op.inputs, inputs, strict=True) if t.requires_grad),
                    expected="inputs that require no gradient",
                    hint="call it under torch.no_grad(), or without the native kernels: the reference has gradients",
                )
            return reference(*inputs, **attributes)
        with torch._C._AutoDispatchBelowAutograd():  # as every autograd kernel in Python goes on; it has no public name
            found: torch.Tensor = getattr(torch.ops.lat, op.stem)(*inputs, **attributes)
            return found

    return compute


def _fake(op: Op) -> Implementation:
    def shape(*inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        import torch

        op.check_attributes(attributes)
        sizes: dict[str, Any] = {a.dim: int(attributes[a.name]) for a in op.attributes if a.dim}
        for port, tensor in zip(op.inputs, inputs, strict=True):
            sizes.update(zip(port.dims, tensor.shape, strict=True))
        for letter in op.output_dims:
            if letter not in sizes:  # a size that depends on data
                sizes[letter] = torch.library.get_ctx().new_dynamic_size()
        return inputs[0].new_empty([sizes[letter] for letter in op.output_dims or op.inputs[0].dims])

    return shape
