"""Longformer: a banded window of local tokens, and global tokens with projections of their own.

transformers pads to a multiple of the window, asks `.any()` of the global mask and makes shapes from the number of
global tokens. None of it survives tracing, so its model and encoder loops are replaced; embeddings, layers' linear
parts, poolers and heads stay transformers' own modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers.models.longformer import modeling_longformer as hf

from lat_export.errors import InputError
from lat_export.families.backbone import Backbone, SelfAttention, with_backbone
from lat_export.families.contract import Family, Limits
from lat_export.ops import OPS
from lat_export.ops.token_mask import GLOBAL
from lat_export.types import GLOBALS_DIM

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


class BandedSelfAttention(SelfAttention):
    """`LongformerSelfAttention` for any length and any globals, through the two `lat` ops."""

    def __init__(self, attention: hf.LongformerSelfAttention) -> None:
        super().__init__()
        self.attention = attention
        self.shared = {"num_heads": attention.num_heads, "scale": attention.head_dim**-0.5}

    def forward(self, hidden_states: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden_states: (B, N, E).
            token_mask: (B, N) int32: 0 padding, 1 token, 2 global token.
        Returns:
            (B, N, E), before the output projection.
        """
        source = self.attention
        local_rows = OPS["BandedWindowAttention"](
            source.query(hidden_states),
            source.key(hidden_states),
            source.value(hidden_states),
            token_mask,
            window=source.one_sided_attn_window_size,
            **self.shared,
        )
        global_rows = OPS["GlobalTokenAttention"](
            hidden_states,
            token_mask,
            source.query_global.weight,
            source.query_global.bias,
            source.key_global.weight,
            source.value_global.weight,
            source.value_global.bias,
            **self.shared,
        )
        # Each has zeros where the other has rows.
        return local_rows + global_rows

    def attentions(
        self, hidden_states: torch.Tensor, token_mask: torch.Tensor, context: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Of one layer: (B, H, N, x + 2 W + 1) and (B, H, N, x), x the most global tokens in a row of the batch."""
        source = self.attention
        query, key = source.query(hidden_states), source.key(hidden_states)
        query_global, key_global = source.query_global(hidden_states), source.key_global(hidden_states)
        window = source.one_sided_attn_window_size
        return {
            "attentions": OPS["BandedWindowProbabilities"](query, key, token_mask, window=window, **self.shared),
            "global_attentions": OPS["GlobalTokenProbabilities"](query_global, key_global, token_mask, **self.shared),
        }


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

    def attentions(
        self, config: PreTrainedConfig, options: Options, rows: str
    ) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        by_head = rows, config.num_attention_heads, "sequence"
        for layer in range(config.num_hidden_layers):
            yield f"attentions.{layer}", (*by_head, f"{GLOBALS_DIM}+{config.attention_window[layer] + 1}")
        for layer in range(config.num_hidden_layers):
            yield f"global_attentions.{layer}", (*by_head, GLOBALS_DIM)

    def probability_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        return dict.fromkeys(("BandedWindowProbabilities", "GlobalTokenProbabilities"), config.num_hidden_layers)

    def mended(self, outputs: Any, attention_mask: torch.Tensor, **masks: torch.Tensor) -> Any:
        """transformers leaves its own padding in `global_attentions`, uniform numbers where a row has fewer globals
        than another, and gives none at all where no row has any."""
        if "attentions" not in outputs:
            return outputs
        is_global = (token_mask(attention_mask, masks["global_attention_mask"]) == GLOBAL).flatten(0, -2)
        tokens, in_a_row = is_global.shape[-1], is_global.sum(-1)
        if "global_attentions" not in outputs:
            nothing = tuple(weights.new_zeros(*weights.shape[:3], 0) for weights in outputs["attentions"])
            outputs["global_attentions"] = nothing
        missing = torch.arange(int(in_a_row.max())) >= in_a_row[:, None, None, None]
        outputs["global_attentions"] = tuple(
            weights[:, :, :tokens].masked_fill(missing, 0) for weights in outputs["global_attentions"]
        )
        return outputs

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
