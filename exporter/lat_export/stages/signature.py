"""The signature of an exported model: what its family, its task, its config and the user's options make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.errors import InputError
from lat_export.families import Family, Limits
from lat_export.tasks import Task
from lat_export.types import ModelSpec, Range, Signature, TensorSpec

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WHERE = {"stage": "load"}
MASK_VALUES = 2  # 0 and 1


def signature_of(
    family: Family, task: Task, config: PreTrainedConfig, outputs: list[str], spec: ModelSpec
) -> Signature:
    """
    Args:
        outputs: names of the outputs that the checkpoint has weights for.
    Raises:
        InputError: `spec.sequence` is not one that the checkpoint can take.
    """
    limits = family.limits(config, task.name)
    sizes: dict[str, int] = {"hidden": config.hidden_size, "vocab": config.vocab_size, "labels": config.num_labels}
    if spec.sequence is not None:
        _check_sequence(spec.sequence, limits)
    if limits.max_tokens < 1:
        got = f"max_position_embeddings={config.max_position_embeddings}"
        raise InputError("config.json has no room for a token", got=got, where=WHERE)
    masks = ("attention_mask", *family.extra_inputs)
    max_global = limits.max_global
    if max_global is not None and spec.max_global is not None:
        max_global = spec.max_global
    return Signature(
        family=family.model_type,
        task=task.name,
        inputs=tuple(
            TensorSpec(name, "int64", task.input_dims, below)
            for name, below in (("input_ids", config.vocab_size), *((mask, MASK_VALUES) for mask in masks))
        ),
        outputs=tuple(
            TensorSpec(name, "float32", tuple(sizes.get(dim, dim) for dim in dims))
            for name, dims in task.outputs
            if name in outputs
        ),
        pad_token_id=config.pad_token_id,
        max_tokens=limits.max_tokens,
        boundary_lengths=limits.boundary_lengths,
        pattern_length=min(limits.pattern_length, limits.max_tokens),
        max_global=max_global,
        multiple_of=limits.multiple_of,
    )


def _check_sequence(sequence: Range, limits: Limits) -> None:
    if sequence.max > limits.max_tokens:
        longest = limits.max_tokens
        raise InputError(
            "the sequence is longer than the checkpoint's position table",
            got=f"--seq {sequence}",
            expected=f"N <= {longest}",
            hint=f"--seq {min(sequence.min, longest)}:{min(sequence.opt, longest)}:{longest}",
            where=WHERE,
        )
    step = limits.multiple_of
    if any(size % step for size in (sequence.min, sequence.opt, sequence.max)):
        whole = ":".join(str(-(-size // step) * step) for size in (sequence.min, sequence.opt, sequence.max))
        raise InputError(
            "every sequence length must be a multiple of the checkpoint's num_landmarks",
            got=f"--seq {sequence}",
            expected=f"multiples of {step}",
            hint=f"--seq {whole}",
            where=WHERE,
        )
