"""Longformer: a banded window of local tokens, and global tokens with projections of their own.

transformers pads to a multiple of the window, asks `.any()` of the global mask and makes shapes from the number of
global tokens. None of it survives tracing, so its model and encoder loops are replaced; embeddings, layers' linear
parts, poolers and heads stay transformers' own modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.models.longformer import modeling_longformer as hf

from lat_export.errors import InputError
from lat_export.families.backbone import Backbone, with_backbone
from lat_export.families.contract import Family, Limits
from lat_export.ops import OPS
from lat_export.ops.token_mask import GLOBAL

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from lat_export.types import Options

# Bound on the global tokens of a row for engines whose shapes cannot depend on data, by what the task marks as global:
# text classification the first token; question answering the question; multiple choice the text after the first
# separator; the others nothing by default, so the bound leaves room for a user's own choice.
DEFAULT_MAX_GLOBAL = {
    "text-classification": 1,
    "question-answering": 64,
    "multiple-choice": 64,
    "feature-extraction": 16,
    "fill-mask": 16,
    "token-classification": 16,
}


# What transformers' task heads make global where the caller names nothing; all other tasks leave every token local.
DEFAULT_GLOBALS = {
    "text-classification": "first",
    "question-answering": "before the separator",
    "multiple-choice": "after the separator",
}


class BandedSelfAttention(torch.nn.Module):
    """`LongformerSelfAttention` for any length and any globals, through the two `lat` ops."""

    def __init__(self, attention: hf.LongformerSelfAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, hidden_states: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden_states: (B, N, E).
            token_mask: (B, N) int32: 0 padding, 1 token, 2 global token.
        Returns:
            (B, N, E), before the output projection.
        """
        source = self.attention
        shared = {"num_heads": source.num_heads, "scale": source.head_dim**-0.5}
        local_rows = OPS["BandedWindowAttention"](
            source.query(hidden_states),
            source.key(hidden_states),
            source.value(hidden_states),
            token_mask,
            window=source.one_sided_attn_window_size,
            **shared,
        )
        global_rows = OPS["GlobalTokenAttention"](
            hidden_states,
            token_mask,
            source.query_global.weight,
            source.query_global.bias,
            source.key_global.weight,
            source.value_global.weight,
            source.value_global.bias,
            **shared,
        )
        return torch.where((token_mask == GLOBAL).unsqueeze(-1), global_rows, local_rows)


def token_mask(attention_mask: torch.Tensor, global_attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, N) int64 masks -> (B, N) int32: 0 padding, 1 token, 2 global token.

    Source: LongformerModel._merge_to_attention_mask; padding wins over global.
    """
    merged = attention_mask * (global_attention_mask + 1)
    return torch.where(merged == GLOBAL, GLOBAL, merged.clamp(0, 1)).to(torch.int32)


def backbone(model: PreTrainedModel) -> Backbone:
    attentions = [BandedSelfAttention(layer.attention.self) for layer in model.encoder.layer]
    return Backbone(model, attentions, token_mask, hf.LongformerBaseModelOutputWithPooling, feed_forward="ff_chunk")


class Longformer(Family):
    """allenai/longformer-base-4096 and all that has `model_type` longformer."""

    model_type = "longformer"
    class_prefix = "Longformer"
    extra_inputs = ("global_attention_mask",)
    has_pooler = True

    def swapped(self, model: PreTrainedModel, options: Options) -> torch.nn.Module:
        return with_backbone(model, "longformer", backbone)

    def why_not_transformers(self, config: PreTrainedConfig, options: Options) -> str | None:
        return None  # the paper and transformers agree

    def expected_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        return {"BandedWindowAttention": config.num_hidden_layers, "GlobalTokenAttention": config.num_hidden_layers}

    def limits(self, config: PreTrainedConfig, task: str) -> Limits:
        if config.pad_token_id is None:
            raise InputError("Longformer counts positions from pad_token_id, and config.json has none")
        windows = {size // 2 for size in config.attention_window}
        widest = max(windows)
        lengths = {length for w in (min(windows), widest) for length in (w, w + 1, 2 * w + 1)}
        return Limits(
            # Positions start after the padding index.
            max_tokens=config.max_position_embeddings - config.pad_token_id - 1,
            boundary_lengths=tuple(sorted(lengths)),
            # One whole block and most of a second.
            pattern_length=widest + widest * 3 // 4 + 1,
            position_rows=config.max_position_embeddings,
            max_global=DEFAULT_MAX_GLOBAL[task],
            default_globals=DEFAULT_GLOBALS.get(task, "none"),
            first_position=config.pad_token_id + 1,
        )


FAMILY = Longformer()
