"""A checkpoint's folder: where it lies, fetched from the hub where it is no folder, and what it may hold."""

from __future__ import annotations

from pathlib import Path

from lat_export.errors import InputError, first_line
from lat_export.tokenizer_file import TOKENIZER_FILE
from lat_export.types import ModelSpec

SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
KERAS_WEIGHTS = "tf_model.h5"
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
HUB_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
HUB_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES)
WHERE = {"stage": "load"}


def checkpoint_folder(spec: ModelSpec) -> Path:
    """Where the checkpoint lies on disk, fetched from the hub where it is no folder.

    Raises:
        InputError: no such folder or hub id.
    """
    folder = Path(spec.model)
    if folder.is_dir():
        return folder
    looks_like_path = folder.exists() or spec.model.count("/") > 1 or spec.model.startswith((".", "/", "~"))
    if looks_like_path:
        raise InputError("no such checkpoint folder", got=spec.model, where=WHERE)
    return _from_hub(spec)


def _from_hub(spec: ModelSpec) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*HUB_FILES, *(HUB_PICKLES if spec.allow_pickle else ())]
    try:
        folder = Path(snapshot_download(spec.model, allow_patterns=patterns))
        if not any((folder / name).is_file() for name in (*SAFE_WEIGHTS, *PICKLED_WEIGHTS)):
            snapshot_download(spec.model, allow_patterns=[KERAS_WEIGHTS])  # the same folder
        return folder
    except Exception as error:  # the hub's client raises errors of several libraries
        raise InputError(
            f"{spec.model!r} is neither a folder nor a model that could be fetched from the hub",
            got=first_line(error),
            expected="a folder written by save_pretrained, or a hub id while online or cached",
            hint="check the spelling; offline, give the path of a local folder",
            where=WHERE,
        ) from error


def check_weights(folder: Path, *, allow_pickle: bool) -> None:
    """
    Raises:
        InputError: no weights, or a kind that is not read.
    """
    if any((folder / name).is_file() for name in (*SAFE_WEIGHTS, KERAS_WEIGHTS)):
        return
    if (folder / f"{KERAS_WEIGHTS}.index.json").is_file():
        raise InputError(
            "the TensorFlow checkpoint is cut into shards, which is not supported",
            got=f"{KERAS_WEIGHTS}.index.json",
            expected=f"one {KERAS_WEIGHTS}",
            hint="with transformers 4 and TensorFlow: save_pretrained(..., max_shard_size='100GB')",
            where=WHERE,
        )
    if any((folder / name).is_file() for name in PICKLED_WEIGHTS):
        if allow_pickle:
            return
        raise InputError(
            "the checkpoint's weights are a pickle, which can run code when it is read",
            got=next(name for name in PICKLED_WEIGHTS if (folder / name).is_file()),
            expected="model.safetensors",
            hint="if you trust its origin, add --allow-pickle",
            where=WHERE,
        )
    raise InputError(
        "the checkpoint folder has no weights",
        got=folder,
        expected=" or ".join((*SAFE_WEIGHTS, KERAS_WEIGHTS)),
        hint="if the model is on the hub as a pickle only, and you trust its origin, add --allow-pickle",
        where=WHERE,
    )
