"""Small sharpened checkpoints of any config, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "pad_token_id": 1,
}


def small_checkpoint(folder: Path, family: str, **config: Any) -> Path:
    """A base model of `family` with queries and keys drawn so that attention is sharp."""
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(family, **{**SIZES, **config})
    model = transformers.AutoModel.from_config(made)
    for name, parameter in model.named_parameters():
        if name.endswith(("query.weight", "key.weight", "query_global.weight", "key_global.weight", "conv.weight")):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
