"""The signature of an exported model: what its family, its task, its config and the user's options make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.families import Family, Limits
from lat_export.profiles import named_profiles
from lat_export.tasks import Task
from lat_export.types import OPTIONAL_OUTPUTS, ModelSpec, Range, Signature, TensorSpec

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
        InputError: a range of `spec` for the sequence is not one that the checkpoint can take.
    """
    limits = family.limits(config, task.name)
    sizes: dict[str, int] = {"hidden": config.hidden_size, "vocab": config.vocab_size, "labels": config.num_labels}
    for profile in named_profiles(spec):
        if "sequence" in profile:
            _check_sequence(profile["sequence"], limits, "--profile seq=" if spec.profiles else "--seq ")
    if limits.max_tokens < 1:
        got = f"max_position_embeddings={config.max_position_embeddings}"
        raise InputError("config.json has no room for a token", got=got, where=WHERE)
    max_global = limits.max_global
    if max_global is not None and spec.max_global is not None:
        max_global = spec.max_global
    return Signature(
        family=family.model_type,
        task=task.name,
        inputs=tuple(_inputs(family, task, config, limits, spec.inputs)),
        outputs=tuple(
            TensorSpec(name, "float32", tuple(sizes.get(str(dim), dim) for dim in dims))
            for name, dims in (*task.outputs, *_optional_outputs(family, task, config, spec))
            if name in outputs or is_optional(name)
        ),
        pad_token_id=config.pad_token_id,
        max_tokens=limits.max_tokens,
        boundary_lengths=limits.boundary_lengths,
        pattern_length=min(limits.pattern_length, limits.max_tokens),
        max_global=max_global,
        multiple_of=limits.multiple_of,
        default_globals=limits.default_globals,
        first_position=limits.first_position,
    )


def _inputs(
    family: Family, task: Task, config: PreTrainedConfig, limits: Limits, optional: tuple[str, ...]
) -> Iterator[TensorSpec]:
    """In the order in which transformers documents them."""
    if "inputs_embeds" in optional:
        yield TensorSpec("inputs_embeds", "float32", (*task.input_dims, config.hidden_size))
    else:
        yield TensorSpec("input_ids", "int64", task.input_dims, config.vocab_size)
    for mask in ("attention_mask", *family.extra_inputs):
        yield TensorSpec(mask, "int64", task.input_dims, MASK_VALUES)
    if "token_type_ids" in optional:
        yield TensorSpec("token_type_ids", "int64", task.input_dims, config.type_vocab_size)
    if "position_ids" in optional:
        yield TensorSpec("position_ids", "int64", task.input_dims, limits.position_rows)


def _optional_outputs(
    family: Family, task: Task, config: PreTrainedConfig, spec: ModelSpec
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The states of all layers, the embeddings' first, and attentions; a question's choices are rows of their own."""
    rows = "*".join(task.input_dims[:-1])
    if "hidden_states" in spec.outputs:
        for index in range(config.num_hidden_layers + 1):
            yield f"hidden_states.{index}", (rows, "sequence", "hidden")
    if "attentions" in spec.outputs:
        yield from family.attentions(config, spec.options, rows)


def is_optional(output: str) -> bool:
    """Whether an output is one of a group that is only there when asked for."""
    return "." in output


def wanted_groups(signature: Signature) -> dict[str, bool]:
    """The arguments with which a PyTorch model gives the optional outputs of a signature."""
    groups = {spec.name.partition(".")[0] for spec in signature.outputs if is_optional(spec.name)}
    return {f"output_{group}": group in groups for group in OPTIONAL_OUTPUTS}


def picked(outputs: Any, name: str) -> Any:
    """The output of a PyTorch model that the signature calls `name`; `hidden_states.2` is a member of a tuple."""
    group, _, index = name.partition(".")
    return outputs[group][int(index)] if index else outputs[group]


def _check_sequence(sequence: Range, limits: Limits, option: str) -> None:
    if sequence.max > limits.max_tokens:
        longest = limits.max_tokens
        raise InputError(
            "the sequence is longer than the checkpoint's position table",
            got=f"{option}{sequence}",
            expected=f"N <= {longest}",
            hint=f"{option}{min(sequence.min, longest)}:{min(sequence.opt, longest)}:{longest}",
            where=WHERE,
        )
    step = limits.multiple_of
    if any(size % step for size in (sequence.min, sequence.opt, sequence.max)):
        whole = ":".join(str(-(-size // step) * step) for size in (sequence.min, sequence.opt, sequence.max))
        raise InputError(
            "every sequence length must be a multiple of the checkpoint's num_landmarks",
            got=f"{option}{sequence}",
            expected=f"multiples of {step}",
            hint=f"{option}{whole}",
            where=WHERE,
        )
