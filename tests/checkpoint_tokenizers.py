"""Small tokenizers of the kinds that the families' checkpoints come with, trained on the goldens' texts."""

from __future__ import annotations

import json
from typing import Any

import transformers
from conftest import GOLDEN
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers


def corpus() -> list[str]:
    lines: list[str] = json.loads((GOLDEN / "longformer" / "recipe.json").read_text())["tokenizer"]["corpus"]
    return lines


def albert_tokenizer() -> Any:
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(corpus(), trainer)
    vocabulary = json.loads(trained.to_str())["model"]["vocab"]
    return transformers.AlbertTokenizer(vocab=[(token, score) for token, score in vocabulary])


def longformer_tokenizer() -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(corpus(), trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return transformers.LongformerTokenizerFast(vocab=model["vocab"], merges=merges)
