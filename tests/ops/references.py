"""What an op's body is held to: the reference in float64, and how far plain PyTorch is from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lat_export.ops.contract import Op

Tensors = tuple[torch.Tensor, ...]


def feeds(op: Op, tensors: Tensors) -> dict[str, np.ndarray]:
    """Arrays by the names of the contract."""
    return {port.name: tensor.numpy() for port, tensor in zip(op.inputs, tensors, strict=True)}


def in_dtype(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The same with activations and weights in `dtype`; masks stay integers."""
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in tensors)


def exact(op: Op, tensors: Tensors, attributes: dict[str, Any]) -> np.ndarray:
    """The reference, in float64."""
    return op(*in_dtype(tensors, torch.float64), **attributes).numpy()


def check_by_policy(op: Op, output: np.ndarray, tensors: Tensors, attributes: dict[str, Any], slack: float) -> None:
    """style.md: at most twice the error of plain PyTorch in the same dtype, and `slack` of the largest number."""
    reference = exact(op, tensors, attributes)
    naive = op(*tensors, **attributes).numpy().astype(np.float64)
    assert np.isfinite(output).all()
    error, naive_error = (np.abs(found - reference).max() for found in (output.astype(np.float64), naive))
    assert error <= 2 * naive_error + slack * np.abs(reference).max()
