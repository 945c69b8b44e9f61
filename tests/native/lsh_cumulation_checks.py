"""What the tests of lat::LshCumulation's kernels share, on the CPU and on CUDA devices: inputs, arguments, and how an
output is judged. Rows that a projection within rounding of zero can reach are left to `check_node`; all others must be
right."""

from __future__ import annotations

import torch
from native import c_abi
from native.c_abi import DTYPES, Rows, pointer
from native.kernel_checks import random_rows, token_mask

from lat_export.validation.sampled import Hashed, SampledCheck, check_node

# Relative L2 of rows that no doubtful sign reaches: rounding of the sums, and of the output in half precision.
ROUNDING = {torch.float32: 5e-7, torch.float16: 5e-4, torch.bfloat16: 4e-3}


def inputs(
    tokens: int, kind: str = "none", heads: int = 2, size: int = 16, hashes: tuple[int, int] = (5, 4), batch: int = 3
) -> tuple[torch.Tensor, ...]:
    rows = random_rows((batch, tokens, heads * size), seed=tokens + size)
    (projection,) = random_rows((heads, size, hashes[0] * hashes[1]), seed=tokens, count=1, size=1.0)
    return (*rows, token_mask(kind, batch, tokens), projection)


def of_few_bits(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Projections of halves are exact in every type, zeros among them: a zero is not above zero."""
    return tuple((t * 2).round() / 2 if t.is_floating_point() else t for t in tensors)


def arguments(tensors: tuple[torch.Tensor, ...], hashes: tuple[int, int]) -> c_abi.LshCumulation:
    *rows, mask, projection = tensors
    sizes = (*rows[0].shape, projection.shape[0], *hashes, DTYPES[projection.dtype])
    return c_abi.LshCumulation(*sizes, *map(Rows.of, rows), Rows(), pointer(mask), pointer(projection))


def check(output: torch.Tensor, tensors: tuple[torch.Tensor, ...], hashes: tuple[int, int]) -> SampledCheck:
    query, key, value, mask, projection = (
        t.double().cpu().numpy() if t.is_floating_point() else t.cpu().numpy() for t in tensors
    )
    assert output.isfinite().all()
    assert (output[tensors[3] == 0] == 0).all()
    sizes = (tensors[4].shape[0], hashes[0])
    found = check_node(Hashed.of_node(query, key, value, mask, projection, sizes), output.double().cpu().numpy())
    assert found.relative_l2 <= ROUNDING[output.dtype]
    return found
