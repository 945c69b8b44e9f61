"""What the tests of every kernel share: masks, inputs, the tolerance policy, threads, arguments to be refused."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import torch
from native import c_abi
from native.c_abi import BAD_ARGUMENT, DTYPES, OK, Guarded, Parallel, Rows

MASKS = ("none", "right", "left", "one row all padding", "all padding")
HEAD_SIZES = (8, 16, 20, 64)
# Sizes by the letter of the glossary that messages have for them.
WORDS = {"batch": "B", "tokens": "N", "width": "E"}
# Of the largest number of the reference. Rounding alone gives about 1e-6, 1e-3 and 8e-3; the rest is for the op.
CEILING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}

Call = Callable[["Parallel | None"], torch.Tensor]


def token_mask(kind: str, batch: int, tokens: int) -> torch.Tensor:
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        lost = tokens * (row + 1) // (batch + 2)
        if kind == "right":
            mask[row, tokens - lost :] = 0
        elif kind == "left":
            mask[row, :lost] = 0
    if kind == "one row all padding":
        mask[-1] = 0
    elif kind == "all padding":
        mask[:] = 0
    return mask


def random_rows(shape: tuple[int, ...], seed: int, count: int = 3, size: float = 1.5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) * size for _ in range(count)]


def convolved_inputs(
    tokens: int, kind: str = "none", taps: int = 3, heads: int = 2, size: int = 16, batch: int = 3
) -> tuple[torch.Tensor, ...]:
    """Query, key, value, mask and the weights of the values' convolution."""
    rows = random_rows((batch, tokens, heads * size), seed=tokens + taps + size)
    (weight,) = random_rows((heads, taps), seed=taps, count=1, size=0.3)
    return (*rows, token_mask(kind, batch, tokens), weight)


def cast(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors)


def check_policy(op: Any, output: torch.Tensor, tensors: tuple[torch.Tensor, ...], attributes: dict[str, int]) -> None:
    """At most twice the error of plain PyTorch in the same dtype, and within the ceiling."""
    exact = op(*cast(tensors, torch.float64), **attributes)
    naive = op(*tensors, **attributes).double()
    assert output.isfinite().all()
    largest = exact.abs().max().item()
    error, allowed = (output.double() - exact).abs().max().item(), 2 * (naive - exact).abs().max().item()
    # An exact tie of the rounding may go either way: half a unit in the last place of the largest number.
    tiny = max(2e-6, torch.finfo(output.dtype).eps / 2) * largest
    assert error <= allowed + tiny, f"{error:g} against {allowed / 2:g} of plain PyTorch"
    assert error <= CEILING[output.dtype] * largest


def check_same_bits(call: Call) -> None:
    """Whatever the threads, and run after run."""
    first = call(None)
    for count in (1, 2, 8, 8):
        assert torch.equal(call(c_abi.on_threads(count)), first)


def apart(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Query, key and value as one product of three gives them: slices of rows of 3 E."""
    return (*torch.cat(tensors[:3], dim=-1).split(tensors[0].shape[-1], dim=-1), *tensors[3:])


def run_into_guarded(
    kernels: ctypes.CDLL, arguments: Any, like: torch.Tensor, parallel: Parallel | None = None
) -> torch.Tensor:
    """Call with an output that shows what was written beside it."""
    output = Guarded(tuple(like.shape), like.dtype)
    arguments.output = Rows.of(output.tensor)
    arguments.dtype = DTYPES[like.dtype]
    assert c_abi.call(kernels, arguments, parallel) == (OK, "")
    output.check()
    return output.tensor


def check_refused(kernels: ctypes.CDLL, arguments: Any, output: Guarded, part: str) -> None:
    code, message = c_abi.call(kernels, arguments)
    assert code == BAD_ARGUMENT, message
    assert part in message
    assert ": got " in message
    assert ", expected " in message
    assert output.untouched()


def bad_sizes(names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Zero, negative and huge ones."""
    for name in names:
        for size in (0, -1, -(2**63), 2**31, 2**62, 2**63 - 1):
            yield name, size


def without(arguments: Any, name: str) -> Any:
    """With a null pointer there."""
    is_rows = dict(arguments._fields_)[name] is Rows
    return set_field(arguments, name, Rows(None, 2**20, 2**10) if is_rows else None)


def set_field(arguments: Any, name: str, value: Any) -> Any:
    changed = type(arguments)()
    ctypes.memmove(ctypes.byref(changed), ctypes.byref(arguments), ctypes.sizeof(arguments))
    setattr(changed, name, value)
    return changed
