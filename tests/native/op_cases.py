"""Calls of every op that has a kernel, and how each is judged: for tests that take the ops through another door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from native import test_bernoulli_expectation_kernel as bernoulli
from native import test_full_attention_kernel as full
from native import test_longformer_kernels as longformer
from native import test_lsh_cumulation_kernel as lsh
from native import test_nystrom_attention_kernel as nystrom
from native.kernel_checks import cast, check_policy
from ops.test_longformer_ops import BANDED, GLOBAL, attributes, banded_inputs, global_inputs

from lat_export.ops import OPS

Tensors = tuple[torch.Tensor, ...]
LENGTHS = (1, 5, 40, 97)
LONGFORMER_MASKS = ("plain", "scattered", "all global", "right padding", "left padding", "one row all padding")
MASKS = ("none", "right", "left", "one row all padding")


@dataclass(frozen=True)
class Cases:
    """One op's.

    Attributes:
        make: inputs in float32 and attributes, of a kind of mask and a length.
        check: by the tolerance policy: output, inputs, attributes.
    """

    kinds: tuple[str, ...]
    make: Callable[[str, int], tuple[Tensors, dict[str, Any]]]
    check: Callable[[torch.Tensor, Tensors, dict[str, Any]], Any]

    def all(self, dtype: torch.dtype) -> Iterator[tuple[Tensors, dict[str, Any]]]:
        for tokens in LENGTHS:
            for kind in self.kinds:
                tensors, options = self.make(kind, tokens)
                yield cast(tensors, dtype), options


def _nystrom(kind: str, tokens: int) -> tuple[Tensors, dict[str, Any]]:
    tensors = nystrom.inputs(tokens, kind, taps=5)
    return tensors, nystrom.attributes(tensors, 8 if tokens % 8 == 0 else 1, per_head_init=tokens % 2)


CASES = {
    BANDED: Cases(
        LONGFORMER_MASKS,
        lambda kind, tokens: (banded_inputs(kind, tokens), attributes(BANDED)),
        lambda output, tensors, options: longformer.check_by_policy(BANDED, output, tensors, options),
    ),
    GLOBAL: Cases(
        LONGFORMER_MASKS,
        lambda kind, tokens: (global_inputs(kind, tokens), attributes(GLOBAL)),
        lambda output, tensors, options: longformer.check_by_policy(GLOBAL, output, tensors, options),
    ),
    "NystromAttention": Cases(
        MASKS, _nystrom, lambda output, tensors, options: check_policy(nystrom.OP, output, tensors, options)
    ),
    "LshCumulation": Cases(
        MASKS,
        lambda kind, tokens: (lsh.inputs(tokens, kind), {"num_heads": 2, "num_hash": 5, "hash_code_len": 4}),
        lambda output, tensors, options: lsh.check(output, tensors, (5, 4)),
    ),
    "BernoulliExpectation": Cases(
        MASKS,
        lambda kind, tokens: (bernoulli.inputs(tokens, kind), {"num_heads": 2, "hash_code_len": 9}),
        lambda output, tensors, options: check_policy(bernoulli.OP, output, tensors, options),
    ),
    "FullAttention": Cases(
        MASKS,
        lambda kind, tokens: (full.inputs(tokens, kind, taps=5), {"num_heads": 2}),
        lambda output, tensors, options: check_policy(full.OP, output, tensors, options),
    ),
}


def torch_op(name: str) -> Callable[..., torch.Tensor]:
    """`torch.ops.lat.<op>` by the ONNX name."""
    found: Callable[..., torch.Tensor] = getattr(torch.ops.lat, OPS[name].stem)
    return found
