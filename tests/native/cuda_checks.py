"""What the tests of all CUDA kernels share, on a GPU and on the device played on the host."""

from __future__ import annotations

import torch

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HEAD_SIZES = (16, 32, 64, 128)
# Of the largest number of the reference.
CEILING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def normal(*shape: int, seed: int, size: float = 1.5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size


def cast(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors)


def double(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors)


def lay_out(tensors: tuple[torch.Tensor, ...], layout: str) -> tuple[torch.Tensor, ...]:
    """Query, key and value without gaps; as slices of rows of 3 E; or where no row lies on 16 bytes."""
    *activations, mask = tensors
    if layout == "slices":
        return (*torch.cat(activations, dim=-1).split(activations[0].shape[-1], dim=-1), mask)
    if layout == "odd":
        wider = [torch.nn.functional.pad(tensor, (1, 2)) for tensor in activations]
        return (*(tensor[..., 1:-2] for tensor in wider), mask)
    return tensors


def check_policy(
    output: torch.Tensor, exact: torch.Tensor, naive: torch.Tensor, rows: torch.Tensor, ceiling: float = 0.0
) -> None:
    """At most twice the error of plain PyTorch in the same dtype, and within the ceiling; other rows exactly 0.

    `ceiling` is a higher one, for inputs on which float32 itself is worse.
    """
    assert output.isfinite().all()
    assert (output[~rows] == 0).all()
    if not rows.any():
        return
    output, exact, naive = output[rows], exact[rows], naive[rows].double()
    error, allowed = (output.double() - exact).abs().max().item(), 2 * (naive - exact).abs().max().item()
    largest = exact.abs().max().item()
    # An exact tie of the rounding may go either way: half a unit in the last place of the largest number.
    tiny = max(2e-6, torch.finfo(output.dtype).eps / 2) * largest
    assert error <= allowed + tiny, f"{error:g} against {allowed / 2:g} of plain PyTorch"
    assert error <= max(CEILING[output.dtype], ceiling) * largest
