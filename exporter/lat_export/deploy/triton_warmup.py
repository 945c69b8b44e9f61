"""What Triton runs once before it calls a model ready: a row, and a full batch, of tokens of the usual length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.stages.bundle import Bundle
from lat_export.types import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from lat_export.deploy.triton import Tensors

USUAL_TOKENS = 512
USUAL_CHOICES = 2
FOLDER = "warmup"


@dataclass(frozen=True)
class Warmup:
    """One row: Triton repeats it for a batch.

    Attributes:
        sizes: of the dims, the batch's 1.
    """

    sizes: dict[str, int]

    def shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return tuple(self.sizes[dim] if isinstance(dim, str) else dim for dim in spec.dims)

    def file(self, spec: TensorSpec) -> str:
        return f"{spec.name}.{'x'.join(map(str, self.shape(spec)))}"


def warmups(bundle: Bundle, *, by_engine: bool) -> tuple[Warmup, ...]:
    """One for every profile of an engine, else one."""
    signature = bundle.signature
    step = signature.multiple_of
    tokens = max(step, min(USUAL_TOKENS, signature.max_tokens) // step * step)
    usual = {"batch": 1, "choices": USUAL_CHOICES, "sequence": tokens}
    if not by_engine:
        return (Warmup(usual),)
    profiles = ({dim: sizes.opt for dim, sizes in profile.items()} for profile in bundle.plan.profiles)
    least = min(profile["batch"].min for profile in bundle.plan.profiles)
    return tuple(Warmup({**usual, **profile, "batch": least}) for profile in profiles)


def write_warmups(tensors: Tensors, folder: Path) -> None:
    """The files that the config of the model in `folder` names."""
    (folder / FOLDER).mkdir()
    signature = tensors.bundle.signature
    for warmup in tensors.warmups:
        for spec in signature.inputs:
            array = values(signature, spec, warmup.shape(spec), tensors.max_global)
            (folder / FOLDER / warmup.file(spec)).write_bytes(array.tobytes())


def values(
    signature: Signature, spec: TensorSpec, shape: tuple[int, ...], max_global: int | None
) -> np.ndarray[Any, Any]:
    """What an input may hold: every position a token, the first one global where a row may have one."""
    import numpy as np

    places = np.broadcast_to(np.arange(shape[-1]), shape)
    made: dict[str, np.ndarray[Any, Any]] = {
        "input_ids": places % (spec.below or 1),
        "attention_mask": np.ones(shape),
        "global_attention_mask": (places == 0) & (max_global != 0),
        "position_ids": places + signature.first_position,
    }
    return made.get(spec.name, np.zeros(shape)).astype(spec.dtype)
