"""A model's own embeddings, layers and pooler around swapped attentions, free of branches on data."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# (attention_mask, the family's other masks by name) -> what every attention of the family takes as its mask.
MaskRule = Callable[..., Any]


class SelfAttention(torch.nn.Module, ABC):
    """The attention of one layer, before the output projection."""

    @abstractmethod
    def forward(self, hidden_states: torch.Tensor, mask: Any) -> torch.Tensor:
        """(B, N, E) and what the family's `MaskRule` gives -> context (B, N, E)."""

    @abstractmethod
    def attentions(self, hidden_states: torch.Tensor, mask: Any, context: torch.Tensor) -> dict[str, torch.Tensor]:
        """The layer's part of the optional outputs by group, for example "attentions"; `context` is `forward`'s."""


class Backbone(torch.nn.Module):
    """The base model of a family, for any length."""

    def __init__(
        self,
        model: PreTrainedModel,
        attentions: Sequence[SelfAttention],
        mask_rule: MaskRule,
        output_class: type[Any],
        feed_forward: str = "feed_forward_chunk",
    ) -> None:
        """
        Args:
            model: the family's base model in transformers; its parameters are shared, it is not changed.
            attentions: one a layer, in order.
            output_class: what transformers' base model returns.
            feed_forward: name of the layers' method after the attention.
        """
        super().__init__()
        self.embeddings = model.embeddings
        self.layers = model.encoder.layer
        self.attentions = torch.nn.ModuleList(attentions)
        self.pooler = getattr(model, "pooler", None)
        self.mask_rule = mask_rule
        self.output_class = output_class
        self.feed_forward = feed_forward

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **inputs: Any,
    ) -> Any:
        """Inputs (B, N) int64 as the base model takes them, inputs_embeds (B, N, E); masks may not be left out."""
        masks = {name: tensor for name, tensor in inputs.items() if name.endswith("_mask")}
        mask = self.mask_rule(attention_mask, **masks)
        hidden_states = self.embeddings(
            input_ids=input_ids, token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds
        )
        all_hidden_states = [hidden_states]
        attentions: dict[str, list[torch.Tensor]] = {}
        for layer, attention in zip(self.layers, self.attentions, strict=True):
            context = attention(hidden_states, mask)
            if output_attentions:
                assert isinstance(attention, SelfAttention)  # a ModuleList forgets what it holds
                for group, tensor in attention.attentions(hidden_states, mask, context).items():
                    attentions.setdefault(group, []).append(tensor)
            attended = layer.attention.output(context, hidden_states)
            hidden_states = getattr(layer, self.feed_forward)(attended)
            all_hidden_states.append(hidden_states)
        outputs: dict[str, Any] = {"last_hidden_state": hidden_states}
        outputs.update((group, tuple(tensors)) for group, tensors in attentions.items())
        if output_hidden_states:
            outputs["hidden_states"] = tuple(all_hidden_states)
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(hidden_states)
        return self.output_class(**outputs)


def with_backbone(
    model: PreTrainedModel, prefix: str, backbone: Callable[[PreTrainedModel], Backbone]
) -> torch.nn.Module:
    """`model` with its base model replaced, over the same parameters; `model` itself is unchanged.

    Args:
        prefix: attribute of the task models that holds the base model (`base_model_prefix` in transformers).
    """
    if not hasattr(model, prefix):
        return backbone(model)
    clone: torch.nn.Module = copy.copy(model)
    clone._modules = dict(model._modules)
    setattr(clone, prefix, backbone(getattr(model, prefix)))
    return clone
