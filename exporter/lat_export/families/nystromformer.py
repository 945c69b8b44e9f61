"""Nystroemformer: softmax attention through landmarks, or exact, and a convolution of the values in either case.

transformers takes the landmarks only where `num_landmarks` differs from `segment_means_seq_len`; both are 64 by
default, which means exact attention, O(N^2).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from lat_export.errors import InputError
from lat_export.families.backbone import Backbone, SelfAttention, with_backbone
from lat_export.families.contract import Family, Limits
from lat_export.ops import OPS
from lat_export.ops.token_mask import MASKED_SCORE, PADDING
from lat_export.ops.torch_heads import scaled_heads

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.models.nystromformer import modeling_nystromformer as hf

    from lat_export.types import Options


def token_mask(attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, N) int64 -> int32, 0 padding and 1 token."""
    return (attention_mask != 0).to(torch.int32)


class _NystromSelfAttention(SelfAttention):
    """What both forms share: projections, and the paper's masking of padded rows."""

    def __init__(self, attention: hf.NystromformerSelfAttention, config: PreTrainedConfig, options: Options) -> None:
        super().__init__()
        self.attention = attention
        self.per_head_init = int(config.inv_coeff_init_option)
        self.mask_rows = options.semantics == "paper"

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, N, E) -> (B, N, E), before the output projection."""
        source = self.attention
        projections = source.query, source.key, source.value
        query, key, value = (self.rows(linear, hidden_states, mask) for linear in projections)
        return self.context(query, key, value, mask)

    def attentions(
        self, hidden_states: torch.Tensor, mask: torch.Tensor, context: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Of one layer: (B, H, N, L), or (B, H, N, N) for exact attention."""
        source = self.attention
        query, key = (self.rows(linear, hidden_states, mask) for linear in (source.query, source.key))
        return {"attentions": self.probabilities(query, key, mask)}

    def rows(self, linear: torch.nn.Linear, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The authors' code zeroes padded queries, keys and values; transformers' does not."""
        rows: torch.Tensor = linear(hidden_states)
        return rows * mask.unsqueeze(-1) if self.mask_rows else rows

    @abstractmethod
    def context(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, N, E) each -> (B, N, E)."""

    @abstractmethod
    def probabilities(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, N, E) each -> what transformers calls `attention_probs`."""


class LandmarkSelfAttention(_NystromSelfAttention):
    """The landmark branch of `NystromformerSelfAttention`, for any multiple of the landmarks, with padding."""

    def context(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        source = self.attention
        return OPS["NystromAttention"](
            query,
            key,
            value,
            mask,
            source.conv.weight[:, 0, :, 0],
            num_heads=source.num_attention_heads,
            num_landmarks=source.num_landmarks,
            per_head_init=self.per_head_init,
        )

    def probabilities(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        source = self.attention
        return OPS["NystromProbabilities"](
            query,
            key,
            num_heads=source.num_attention_heads,
            num_landmarks=source.num_landmarks,
            per_head_init=self.per_head_init,
        )


class ExactSelfAttention(_NystromSelfAttention):
    """The exact branch."""

    def context(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        source = self.attention
        taps, heads = source.conv.weight[:, 0, :, 0], source.num_attention_heads
        return OPS["FullAttention"](query, key, value, mask, taps, num_heads=heads)

    def probabilities(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k = (scaled_heads(rows, self.attention.num_attention_heads) for rows in (query, key))
        scores = (q @ k.mT).masked_fill((mask == PADDING)[:, None, None, :], MASKED_SCORE)
        return scores.softmax(-1)


def has_landmarks(config: PreTrainedConfig) -> bool:
    return bool(config.num_landmarks != config.segment_means_seq_len)


class Nystromformer(Family):
    """uw-madison/nystromformer-512 and all that has `model_type` nystromformer."""

    model_type = "nystromformer"
    class_prefix = "Nystromformer"

    def construction_overrides(self, raw_config: dict[str, Any]) -> dict[str, Any]:
        """transformers subscripts the config object where this option is set, and raises."""
        return {"inv_coeff_init_option": False} if raw_config.get("inv_coeff_init_option") else {}

    def swapped(self, model: PreTrainedModel, options: Options) -> torch.nn.Module:
        kind = LandmarkSelfAttention if has_landmarks(model.config) else ExactSelfAttention

        def backbone(base: PreTrainedModel) -> Backbone:
            attentions = [kind(layer.attention.self, model.config, options) for layer in base.encoder.layer]
            return Backbone(base, attentions, token_mask, BaseModelOutputWithPastAndCrossAttentions)

        return with_backbone(model, "nystromformer", backbone)

    def warnings(self, config: PreTrainedConfig, options: Options) -> list[str]:
        found = []
        if has_landmarks(config):
            found.append(
                f"transformers runs this checkpoint only at N = {config.segment_means_seq_len} without padding; "
                "elsewhere the reference is lat-export's own"
            )
            if not config.inv_coeff_init_option:
                found.append(
                    "the pseudo-inverse starts from one factor for the whole batch, as in transformers: a row's answer "
                    "depends a little on its neighbours in the batch; inv_coeff_init_option=true removes that"
                )
        else:
            found.append(
                f"num_landmarks equals segment_means_seq_len ({config.num_landmarks}), which means exact attention, "
                "O(N^2); for landmarks, O(N), set segment_means_seq_len in config.json to another number"
            )
        if options.semantics == "hf":
            found.append(
                "padding reaches real tokens through the convolution"
                + (" and the landmarks" if has_landmarks(config) else "")
                + ", as in transformers; --semantics paper masks it"
            )
        return found

    def why_not_transformers(self, config: PreTrainedConfig, options: Options) -> str | None:
        if config.inv_coeff_init_option and has_landmarks(config):
            return "transformers cannot construct inv_coeff_init_option=True"
        return super().why_not_transformers(config, options)

    def why_not_of_this_shape(self, config: PreTrainedConfig, rows: int, tokens: int) -> str | None:
        """The landmarks are a reshape to rows of the configured length; a batch of one such row broadcasts."""
        length = config.segment_means_seq_len // config.num_landmarks * config.num_landmarks
        if not has_landmarks(config) or tokens == length or rows * tokens != length:
            return None
        return f"transformers takes {rows} rows of {tokens} tokens for one of {length}, and mixes them"

    def fitted(self, model: PreTrainedModel, tokens: int) -> str | None:
        """No weight depends on `segment_means_seq_len`. At N = L another value would mean exact attention."""
        config = model.config
        if not has_landmarks(config) or tokens in (config.segment_means_seq_len, config.num_landmarks):
            return None
        for layer in getattr(model, "nystromformer", model).encoder.layer:
            layer.attention.self.seq_len = tokens
        return f"segment_means_seq_len set to {tokens}, the only length at which transformers then runs the landmarks"

    def expected_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        return {"NystromAttention" if has_landmarks(config) else "FullAttention": config.num_hidden_layers}

    def attentions(
        self, config: PreTrainedConfig, options: Options, rows: str
    ) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        columns = config.num_landmarks if has_landmarks(config) else "sequence"
        for layer in range(config.num_hidden_layers):
            yield f"attentions.{layer}", (rows, config.num_attention_heads, "sequence", columns)

    def probability_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        return {"NystromProbabilities": config.num_hidden_layers} if has_landmarks(config) else {}

    def limits(self, config: PreTrainedConfig, task: str) -> Limits:
        kernel = config.conv_kernel_size
        if kernel % 2 == 0:
            raise InputError("conv_kernel_size must be odd: an even one changes the length", got=kernel)
        landmarks = config.num_landmarks if has_landmarks(config) else 1
        if landmarks > config.max_position_embeddings:
            raise InputError(
                "more landmarks than positions",
                got=f"num_landmarks={landmarks}, max_position_embeddings={config.max_position_embeddings}",
            )
        return Limits(
            max_tokens=config.max_position_embeddings,
            position_rows=config.max_position_embeddings + 2,
            boundary_lengths=(landmarks, 2 * landmarks, kernel // 2 + 1, kernel + landmarks),
            # The one length at which transformers' own landmark branch runs.
            pattern_length=config.segment_means_seq_len if has_landmarks(config) else 53,
            multiple_of=landmarks,
        )


FAMILY = Nystromformer()
