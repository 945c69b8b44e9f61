"""load: checkpoint folder or hub id, task -> PyTorch model in eval mode, its family and its signature."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, first_line
from lat_export.families import Family, family_of
from lat_export.quiet import quiet_transformers
from lat_export.stages.checkpoint_folder import (
    KERAS_WEIGHTS,
    SAFE_WEIGHTS,
    TOKENIZER_FILES,
    WHERE,
    check_weights,
    checkpoint_folder,
)
from lat_export.stages.keras_weights import read_keras_weights
from lat_export.stages.signature import signature_of
from lat_export.tasks import TASKS, Task, task_named
from lat_export.tokenizer_file import read_tokenizer
from lat_export.types import ModelSpec, Options, Signature

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

# Tensors that older releases of transformers saved, and newer ones make.
BUFFERS = (".position_ids", ".token_type_ids")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint without its weights.

    Attributes:
        folder: where it lies on disk.
        warnings: what the user should know about it.
    """

    folder: Path
    family: Family
    signature: Signature
    options: Options
    warnings: tuple[str, ...] = ()

    @property
    def tokenizer_files(self) -> tuple[Path, ...]:
        return tuple(path for name in TOKENIZER_FILES if (path := self.folder / name).is_file())


@dataclass(frozen=True)
class Loaded:
    """A checkpoint with its model in memory, in eval mode and float32."""

    checkpoint: Checkpoint
    model: PreTrainedModel

    @property
    def signature(self) -> Signature:
        return self.checkpoint.signature


def load(spec: ModelSpec) -> Loaded:
    """Read a checkpoint.

    Raises:
        InputError: no such folder or hub id, no config or weights, unsafe or broken weights, sizes that differ from
            the config's, an unknown family or task, a task without its head.
    """
    try:
        return _load(spec)
    except OSError as error:
        raise InputError("the checkpoint cannot be read", got=first_line(error), where=WHERE) from error


def _load(spec: ModelSpec) -> Loaded:
    folder = checkpoint_folder(spec)
    raw_config = _raw_config(folder)
    family = family_of(str(raw_config.get("model_type")))
    task = _task(spec.task, raw_config, family)
    check_weights(folder, allow_pickle=spec.allow_pickle)
    model, missing, unused = _model(folder, family, task, raw_config)
    outputs, warnings = _outputs(family, task, missing, folder)
    warnings += _note_on_unused(unused, task)
    tokenizer = read_tokenizer(folder)  # even where nothing is asked of it: a damaged one would be found too late
    if task.two_texts and model.config.type_vocab_size > 1 and "token_type_ids" not in spec.inputs:
        warnings += _note_on_token_types(tokenizer)
    signature = signature_of(family, task, model.config, outputs, spec)
    warnings += tuple(family.warnings(model.config, spec.options))
    warnings += _note_on_hashes(spec.options, family.expected_nodes(model.config))
    if "attentions" in spec.outputs:
        warnings += tuple(family.attention_warnings(spec.options))
    return Loaded(Checkpoint(folder, family, signature, spec.options, warnings), model)


def _raw_config(folder: Path) -> dict[str, Any]:
    config = folder / "config.json"
    if not config.is_file():
        found = sorted(path.name for path in folder.iterdir())[:8]
        raise InputError(
            "the checkpoint folder has no config.json",
            got=f"{folder} with {', '.join(found) or 'nothing in it'}",
            expected="a folder written by save_pretrained",
            where=WHERE,
        )
    try:
        raw = json.loads(config.read_text())
    except ValueError as error:
        raise InputError("config.json is not valid JSON", got=error, where=WHERE) from error
    if not isinstance(raw, dict):
        raise InputError("config.json is not a JSON object", got=type(raw).__name__, where=WHERE)
    return raw


def _task(name: str | None, raw_config: dict[str, Any], family: Family) -> Task:
    if name is not None:
        return task_named(name)
    architectures = raw_config.get("architectures") or []
    by_class = {family.class_prefix + task.class_suffix: task for task in TASKS.values()}
    for architecture in architectures:
        if architecture in by_class:
            return by_class[architecture]
    raise InputError(
        "the checkpoint does not say which task it was made for",
        got=f"architectures={architectures}",
        expected="one of " + ", ".join(by_class),
        hint="name it: --task " + "|".join(TASKS),
        where=WHERE,
    )


def _model(
    folder: Path, family: Family, task: Task, raw_config: dict[str, Any]
) -> tuple[PreTrainedModel, set[str], list[str]]:
    """The model in eval mode, the parameters that the checkpoint does not have, and its tensors that are none."""
    import torch
    import transformers

    model_class = getattr(transformers, family.class_prefix + task.class_suffix)
    safe = any((folder / name).is_file() for name in SAFE_WEIGHTS)
    overrides = family.construction_overrides(raw_config)
    keras = None if safe or not (folder / KERAS_WEIGHTS).is_file() else read_keras_weights(folder / KERAS_WEIGHTS)
    try:
        with quiet_transformers():
            model, info = model_class.from_pretrained(
                folder if keras is None else None,
                config=model_class.config_class.from_pretrained(
                    folder,
                    return_dict=True,
                    chunk_size_feed_forward=0,  # the same numbers, and any length: chunks must divide the sequence
                    **overrides,
                ),
                state_dict=keras,
                dtype=torch.float32,
                use_safetensors=safe,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are an error, but one with names and sizes: see below
                local_files_only=True,
            )
    except Exception as error:  # transformers, safetensors and torch each raise their own
        raise _loading_error(error) from error
    if info["mismatched_keys"]:
        name, in_file, in_config = sorted(info["mismatched_keys"])[0]
        raise InputError(
            "the weights do not have the sizes that config.json gives",
            got=f"{name} {tuple(in_file)}, one of {len(info['mismatched_keys'])} that differ",
            expected=f"{tuple(in_config)}",
            hint="take config.json and weights from one checkpoint",
            where=WHERE,
        )
    surplus = sorted(name for name in info["unexpected_keys"] if _is_of_the_body(name))
    lacking = sorted(name for name in info["missing_keys"] if _is_of_the_body(name))
    if surplus or lacking:
        raise InputError(
            "config.json describes another model than the weights are of",
            got=f"{len(surplus)} weights too many and {len(lacking)} missing, for example {(surplus + lacking)[0]}",
            expected="the layers that config.json names",
            hint="take config.json and weights from one checkpoint",
            where=WHERE,
        )
    _check_finite(model)
    for name in overrides:
        setattr(model.config, name, raw_config[name])
    return model.eval(), set(info["missing_keys"]), sorted(info["unexpected_keys"])


def _check_finite(model: PreTrainedModel) -> None:
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        raise InputError(
            "weights of the checkpoint are NaN or Inf",
            got=f"{broken[0]}, one of {len(broken)}",
            expected="finite numbers",
            hint="take a checkpoint from before the training diverged, or save it again in float32",
            where=WHERE,
        )


def _is_of_the_body(name: str) -> bool:
    """Whether a parameter is of the part that every task has; heads and poolers come and go with the task."""
    return "encoder." in name or ("embeddings." in name and not name.endswith(BUFFERS))


def _note_on_unused(unused: list[str], task: Task) -> tuple[str, ...]:
    """Every tensor of the checkpoint is a parameter, or told here."""
    modules = Counter(name.rpartition(".")[0] or name for name in unused if not name.endswith(BUFFERS))
    if not modules:
        return ()
    parts = ", ".join(f"{module} ({count} tensors)" for module, count in modules.items())
    return (f"{task.name} has no use for these weights of the checkpoint: {parts}",)


def _note_on_token_types(tokenizer: Tokenizer | None) -> tuple[str, ...]:
    """Older releases of transformers passed the numbers that ALBERT's and BERT's tokenizers give; 5 does not."""
    if tokenizer is None or 1 not in tokenizer.encode("a", "b").type_ids:
        return ()
    return (
        "the tokenizer gives the second text token type 1, and this export takes every token for type 0, as "
        "transformers 5 does; if the model was trained with both types, add --inputs token_type_ids",
    )


def _note_on_hashes(options: Options, nodes: dict[str, int]) -> tuple[str, ...]:
    """Expected collisions, which are YOSO's default, and the other families have no hashes."""
    given = [name for name, value in (("--num-hash", options.num_hash), ("--hash-seed", options.hash_seed)) if value]
    if "LshCumulation" in nodes or not given:
        return ()
    return (f"{' and '.join(given)}: of no use, since only YOSO with use_expectation=False has hashes",)


def _loading_error(error: Exception) -> InputError:
    message = str(error).strip() or type(error).__name__
    if type(error).__name__ == "SafetensorError":
        return InputError(
            "the safetensors file is truncated or damaged",
            got=message.splitlines()[0],
            hint="copy or download it again",
            where=WHERE,
        )
    return InputError(
        "transformers cannot load the checkpoint", got=f"{type(error).__name__}: {message[:1500]}", where=WHERE
    )


def _outputs(family: Family, task: Task, missing: set[str], folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of the outputs that the checkpoint has weights for, and warnings on the others."""
    outputs = [name for name, _ in task.outputs if family.has_pooler or name != "pooler_output"]
    pooler = {name for name in missing if ".pooler." in f".{name}"}
    if missing - pooler or (pooler and "pooler_output" not in outputs):
        lacking = sorted(missing)
        raise InputError(
            f"the checkpoint has no weights for the {task.name} head",
            got=f"missing {', '.join(lacking[:6])}" + (f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""),
            expected=f"a checkpoint fine-tuned for {task.name}",
            hint="choose the task that the checkpoint was saved with, or fine-tune it first",
            where=WHERE,
        )
    if pooler:
        outputs.remove("pooler_output")
        return outputs, (f"{folder.name} has no pooler weights: pooler_output is left out",)
    return outputs, ()
