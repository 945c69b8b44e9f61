"""What a family of checkpoints is: its names, its limits, and how its attention becomes `lat` nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from lat_export.types import Options


# Relative size of the move by precision, in standard deviations. 64 float32 roundings: hash codes then flip about 64
# times as often as between two float32 programs, and outputs, by the square root of that, move about 8 times as far: a
# band that right programs do not leave, and that hardly ever is empty where one of them flips a single code. In half
# precision queries and keys have come through layers of roundings: 4 of them are about the tolerance of any output.
SHAKEN_BY = {"fp32": 64 * 2.0**-23, "fp16": 4 * 2.0**-10, "bf16": 4 * 2.0**-7}


@dataclass(frozen=True)
class Limits:
    """See the attributes of the same names in `lat_export.types.Signature`.

    Attributes:
        position_rows: rows of the position table; position ids are below it.
    """

    max_tokens: int
    boundary_lengths: tuple[int, ...]
    pattern_length: int
    position_rows: int
    multiple_of: int = 1
    max_global: int | None = None
    default_globals: str = "none"
    first_position: int = 2


class Family(ABC):
    """One `model_type` of transformers.

    Attributes:
        model_type: as config.json has it.
        class_prefix: of the model classes in transformers; with a task's suffix it names the class.
        extra_inputs: token inputs beside `input_ids` and `attention_mask`.
        has_pooler: whether the base model has one.
    """

    model_type: ClassVar[str]
    class_prefix: ClassVar[str]
    extra_inputs: ClassVar[tuple[str, ...]] = ()
    has_pooler: ClassVar[bool] = False

    @abstractmethod
    def swapped(self, model: PreTrainedModel, options: Options) -> torch.nn.Module:
        """The same weights, inputs and outputs, with attention through the `lat` ops; `model` is unchanged."""

    def warnings(self, config: PreTrainedConfig, options: Options) -> list[str]:
        """What a user of this checkpoint should know: costs, and traps of transformers that the export met."""
        return []

    def construction_overrides(self, raw_config: dict[str, Any]) -> dict[str, Any]:
        """Config values without which transformers cannot construct the model; `swapped` sees the original ones."""
        return {}

    def why_not_transformers(self, config: PreTrainedConfig, options: Options) -> str | None:
        """Why transformers' own modules are no reference for this export; None where they are."""
        return None if options.semantics == "hf" else f"semantics {options.semantics} is not what transformers computes"

    def why_not_of_this_shape(self, config: PreTrainedConfig, rows: int, tokens: int) -> str | None:
        """Why transformers' own modules, which run a batch of this shape, do not compute what they mean to."""
        return None

    def fitted(self, model: PreTrainedModel, tokens: int) -> str | None:
        """Make transformers' own `model` run at this length, where its config holds it to another one, for timing.

        Returns:
            What was changed; None where nothing had to be.
        """
        return None

    @abstractmethod
    def expected_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        """How many nodes of each `lat` op a right graph without optional outputs has."""

    @abstractmethod
    def attentions(
        self, config: PreTrainedConfig, options: Options, rows: str
    ) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        """Names and dims of what `--outputs attentions` adds, as `hidden_states.0` are named in a signature.

        Args:
            rows: the first dim, "batch" or "batch*choices"; the length is "sequence", the globals are `GLOBALS_DIM`.
        """

    def probability_nodes(self, config: PreTrainedConfig) -> dict[str, int]:
        """How many nodes of each `lat` op `--outputs attentions` adds to a right graph."""
        return {}

    def attention_warnings(self, options: Options) -> list[str]:
        """What a user of `--outputs attentions` should know."""
        return ["attentions are computed beside the attention itself, in standard ops: slower, and with more memory"]

    def shaken(
        self, config: PreTrainedConfig, swapped: torch.nn.Module, seed: int, by: float
    ) -> AbstractContextManager[Any] | None:
        """While it is open, `swapped` computes with queries and keys moved by that part of themselves.

        For attention that hangs on the sign of numbers which may be near zero, so that two right programs differ by
        more than rounding; None where it does not. How far the outputs move is how far such programs may differ.
        """
        return None

    def mended(self, outputs: Any, attention_mask: torch.Tensor, **masks: torch.Tensor) -> Any:
        """transformers' outputs, in the shapes that its documentation gives, where its code gives others."""
        return outputs

    @abstractmethod
    def limits(self, config: PreTrainedConfig, task: str) -> Limits:
        """The limits of an exported model of this config."""
