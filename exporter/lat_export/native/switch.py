"""The kernels behind PyTorch: inside `kernels()` they run `torch.ops.lat.*` for tensors on the CPU and on CUDA devices.

The default is the PyTorch reference, because that is what proves the kernels: were it ever a kernel itself, a parity
report could compare native with native, and pass whatever both do wrong. So exports and golden tensors do not even go
through `torch.ops.lat`: see `lat_export.torch_ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, MissingError
from lat_export.native.kernel import Kernel
from lat_export.native.library import kernels_library, opened
from lat_export.ops import DOMAIN, OPS
from lat_export.torch_ops import define, instead

if TYPE_CHECKING:
    import torch


def enable(threads: int | None = None) -> None:
    """From here on `torch.ops.lat.*` run the kernels for tensors on the CPU and on CUDA devices, in all threads of the
    process.

    Nothing falls back in silence: a dtype that no kernel has, an op without a kernel for the device, CUDA tensors where
    no CUDA kernels are built, and inputs that require gradients are errors. Other devices have the reference.

    Args:
        threads: how many threads a call may use on the CPU; None for as many as torch uses.
    Raises:
        MissingError: the native ops are not built, or of another version than this package.
    """
    if threads is not None and threads < 1:
        raise InputError("a kernel needs a thread", got=threads, expected="threads >= 1")
    opened(kernels_library())
    define()
    from lat_export.native import KERNELS

    forms = {name: _native(KERNELS[name], threads) if name in KERNELS else _lacking(name) for name in OPS}
    instead.update({(device, name): form for device in ("cpu", "cuda") for name, form in forms.items()})


def disable() -> None:
    """From here on `torch.ops.lat.*` are the PyTorch references again."""
    instead.clear()


@contextmanager
def kernels(threads: int | None = None) -> Iterator[None]:
    """Inside, `torch.ops.lat.*` run the kernels, in all threads of the process; see `enable`."""
    before = dict(instead)
    enable(threads)
    try:
        yield
    finally:
        instead.clear()
        instead.update(before)


def _native(kernel: Kernel, threads: int | None) -> Callable[..., torch.Tensor]:
    def compute(*inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        import torch

        return kernel(*inputs, threads=threads or torch.get_num_threads(), **attributes)

    return compute


def _lacking(name: str) -> Callable[..., torch.Tensor]:
    def compute(*inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        hint = "call it outside of lat_export.native.kernels(): there its PyTorch reference runs"
        raise MissingError(f"{DOMAIN}::{name} has no native kernel", hint=hint)

    return compute
