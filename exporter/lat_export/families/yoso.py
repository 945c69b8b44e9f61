"""YOSO: attention by hash collisions, expected (`use_expectation`) or sampled.

transformers' embeddings, layers and heads trace as they are; the attention and its masks are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers.modeling_outputs import BaseModelOutputWithCrossAttentions

from lat_export.errors import InputError
from lat_export.families.backbone import Backbone, SelfAttention, with_backbone
from lat_export.families.contract import Family, Limits
from lat_export.ops import OPS
from lat_export.ops.bernoulli_expectation import expected_collisions
from lat_export.ops.lsh_cumulation import collisions
from lat_export.ops.token_mask import PADDING
from lat_export.ops.torch_heads import split_heads

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.models.yoso import modeling_yoso as hf

    from lat_export.types import Options


class Masks(NamedTuple):
    """
    Attributes:
        tokens: (B, N) int32, 0 padding and 1 token, as the attention sees it.
        conv: (B, N) int64, what the values are multiplied by before the convolution.
    """

    tokens: torch.Tensor
    conv: torch.Tensor


def masks_of_transformers(attention_mask: torch.Tensor) -> Masks:
    """YosoSelfAttention.forward takes the 0/1 mask for an additive one: 1 + mask / 10000 is 1 for both, cut to int."""
    return Masks((1.0 + attention_mask / 10000.0).to(torch.int32), attention_mask)


def masks_of_the_paper(attention_mask: torch.Tensor) -> Masks:
    return Masks((attention_mask != 0).to(torch.int32), attention_mask)


class HashedSelfAttention(SelfAttention):
    """`YosoSelfAttention` through a `lat` op, with the hash's projection as data."""

    def __init__(self, attention: hf.YosoSelfAttention, layer: int, options: Options) -> None:
        super().__init__()
        self.attention = attention
        self.num_hash = options.num_hash or attention.num_hash
        self.weights_wanted = options.semantics == "paper"
        self.shaken_from: torch.Generator | None = None
        self.shaken_by = 0.0
        if not attention.use_expectation:
            self.projection: torch.Tensor
            projection = draw_projection(
                torch.Generator().manual_seed(options.hash_seed * 1000 + layer),
                num_heads=attention.num_attention_heads,
                head_size=attention.attention_head_size,
                columns=self.num_hash * attention.hash_code_len,
                fast=attention.use_fast_hash,
            )
            self.register_buffer("projection", projection)

    def attentions(self, hidden_states: torch.Tensor, masks: Masks, context: torch.Tensor) -> dict[str, torch.Tensor]:
        """As transformers: the context (B, N, E) once more; as the paper: the weights (B, H, N, N)."""
        if not self.weights_wanted:
            return {"attentions": context}
        source = self.attention
        query, key = (
            split_heads(rows, source.num_attention_heads)
            for rows in (source.query(hidden_states), source.key(hidden_states))
        )
        if source.use_expectation:
            weights = expected_collisions(query, key, source.hash_code_len)
        else:
            weights = collisions(query, key, self.projection, self.num_hash)
        padding = masks.tokens == PADDING
        return {"attentions": weights.masked_fill(padding[:, None, None, :] | padding[:, None, :, None], 0)}

    def forward(self, hidden_states: torch.Tensor, masks: Masks) -> torch.Tensor:
        """(B, N, E) -> (B, N, E), before the output projection."""
        source = self.attention
        query, key, value = source.query(hidden_states), source.key(hidden_states), source.value(hidden_states)
        if self.shaken_from is not None:
            query, key = (
                rows * (1 + self.shaken_by * torch.randn(rows.shape, generator=self.shaken_from))
                for rows in (query, key)
            )
        shared = {"num_heads": source.num_attention_heads, "hash_code_len": source.hash_code_len}
        if source.use_expectation:
            context = OPS["BernoulliExpectation"](query, key, value, masks.tokens, **shared)
        else:
            context = OPS["LshCumulation"](
                query, key, value, masks.tokens, self.projection, num_hash=self.num_hash, **shared
            )
        if not source.use_conv:
            return context
        heads = value.view(*value.shape[:-1], source.num_attention_heads, -1).transpose(1, 2)
        convolved: torch.Tensor = source.conv(heads * masks.conv[:, None, :, None])
        return context + convolved.transpose(1, 2).flatten(2)


def draw_projection(
    generator: torch.Generator, *, num_heads: int, head_size: int, columns: int, fast: bool
) -> torch.Tensor:
    """The random directions of all hashes.

    Args:
        columns: R * T.
        fast: blocks of three rounds of (random signs, Hadamard), as YOSO's fast hash, instead of normal numbers.
    Returns:
        (H, D, columns) float32.
    """
    if not fast:
        return torch.randn(num_heads, head_size, columns, generator=generator)
    order = 1 << (head_size - 1).bit_length()  # a Hadamard matrix has a power of two rows; the head is padded by zeros
    hadamard = torch.ones(1, 1)
    while hadamard.shape[0] < order:
        hadamard = torch.kron(hadamard, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    blocks = []
    for _ in range(-(-columns // order)):
        block = torch.eye(order).expand(num_heads, order, order)
        for _ in range(3):
            signs = torch.randint(0, 2, (num_heads, 1, order), generator=generator) * 2.0 - 1.0
            block = (block * signs) @ hadamard / order**0.5
        blocks.append(block)
    return torch.cat(blocks, dim=-1)[:, :head_size, :columns].contiguous()


@contextmanager
def _shaken(swapped: torch.nn.Module, seed: int, by: float) -> Iterator[None]:
    attentions = [module for module in swapped.modules() if isinstance(module, HashedSelfAttention)]
    generator = torch.Generator().manual_seed(seed)
    try:
        for attention in attentions:
            attention.shaken_from, attention.shaken_by = generator, by
        yield
    finally:
        for attention in attentions:
            attention.shaken_from = None


class Yoso(Family):
    """uw-madison/yoso-4096 and all that has `model_type` yoso."""

    model_type = "yoso"
    class_prefix = "Yoso"

    def swapped(self, model: PreTrainedModel, options: Options) -> torch.nn.Module:
        rule = masks_of_the_paper if options.semantics == "paper" else masks_of_transformers

        def backbone(base: PreTrainedModel) -> Backbone:
            attentions = [
                HashedSelfAttention(layer.attention.self, index, options)
                for index, layer in enumerate(base.encoder.layer)
            ]
            return Backbone(base, attentions, rule, BaseModelOutputWithCrossAttentions)

        return with_backbone(model, "yoso", backbone)

    def warnings(self, config: PreTrainedConfig, options: Options) -> list[str]:
        found = []
        if options.semantics == "hf":
            found.append(
                "transformers ignores YOSO's padding mask, so padding changes the answer, and so does this export; "
                "--semantics paper masks it"
            )
        if config.use_expectation:
            found.append("use_expectation=True is O(N^2) in time; use_expectation=False samples it in O(N)")
        else:
            found.append(
                "transformers cannot run use_expectation=False on a CPU, and its hashing gives the query the key's "
                f"code; this export hashes both, with projections drawn from seed {options.hash_seed}"
            )
        return found

    def why_not_transformers(self, config: PreTrainedConfig, options: Options) -> str | None:
        if not config.use_expectation:
            return "transformers has no sampled attention on a CPU"
        return super().why_not_transformers(config, options)

    def shaken(
        self, config: PreTrainedConfig, swapped: torch.nn.Module, seed: int, by: float
    ) -> AbstractContextManager[Any] | None:
        return None if config.use_expectation else _shaken(swapped, seed, by)

    def expected_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        return {"BernoulliExpectation" if config.use_expectation else "LshCumulation": config.num_hidden_layers}

    def attentions(
        self, config: PreTrainedConfig, options: Options, rows: str
    ) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        by_head = (rows, config.num_attention_heads, "sequence", "sequence")
        for layer in range(config.num_hidden_layers):
            yield f"attentions.{layer}", by_head if options.semantics == "paper" else (rows, "sequence", "hidden")

    def attention_warnings(self, options: Options) -> list[str]:
        if options.semantics == "paper":
            return [*super().attention_warnings(options), "attentions are O(N^2) in memory, whatever the attention is"]
        return [
            "transformers gives YOSO's context [B,N,E] for its attentions, and so does this export; "
            "--semantics paper gives the weights [B,H,N,N]",
        ]

    def limits(self, config: PreTrainedConfig, task: str) -> Limits:
        window = config.conv_window
        if window is not None and window % 2 == 0:
            raise InputError("conv_window must be odd: an even one changes the length", got=window)
        return Limits(
            max_tokens=config.max_position_embeddings,
            position_rows=config.max_position_embeddings + 2,
            # Nothing changes its path with the length, but a convolution is wider than a short sequence.
            boundary_lengths=(2, 17, *(() if window is None else (window // 2 + 1, window + 1))),
            pattern_length=53,
        )


FAMILY = Yoso()
