"""record: PyTorch's outputs for a table of cases -> golden tensors in the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lat_export import __version__
from lat_export.digest import file_sha256
from lat_export.errors import InternalError, first_line
from lat_export.families import SHAKEN_BY
from lat_export.profiles import Profile
from lat_export.quiet import quiet_transformers
from lat_export.stages.load import Checkpoint, Loaded
from lat_export.stages.signature import picked, wanted_groups
from lat_export.tokenizer_file import TOKENIZER_FILE
from lat_export.types import Signature
from lat_export.validation.cases import SEED, Case, case_inputs, case_table
from lat_export.validation.compare import difference
from lat_export.validation.given_cases import GivenCases
from lat_export.validation.golden import (
    KEPT_BYTES_PER_CASE,
    Golden,
    GoldenCase,
    GoldenWriter,
    kept_rows,
    take_rows,
)

if TYPE_CHECKING:
    import torch


NOISE_SEEDS = (1, 2)
CONFIG_AND_WEIGHTS = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*", "tf_model.h5")


def record(
    loaded: Loaded,
    folder: Path,
    command: str,
    profiles: Sequence[Profile] = ({},),
    kept_bytes: int | None = KEPT_BYTES_PER_CASE,
    given: GivenCases | None = None,
    precision: str = "fp32",
) -> Golden:
    """Run transformers' own modules over the cases, in float32, and write the golden tensors into `folder`.

    Args:
        command: the command that makes them again, for the manifest.
        profiles: sizes that the artifacts are for; cases of the table outside of all of them are not made.
        kept_bytes: outputs that are larger together keep only some positions of the sequence; None keeps them all.
        given: a user's own cases, which then take the place of the case table.
        precision: of what is to be compared with them: hash codes may flip by its roundings.

    Where transformers cannot run a case, the family's swapped module (the PyTorch references of the ops) does; the
    manifest says so case by case.
    """
    signature = loaded.signature
    writer = GoldenWriter(folder, signature, origin(loaded.checkpoint, command, given))
    reference = _Reference(loaded, SHAKEN_BY[precision])
    for case, inputs in given.cases if given else _cases_of_the_table(signature, profiles):
        outputs, computed_by, why = reference(case, inputs)
        noise = reference.noise(inputs, outputs)
        rows = None if kept_bytes is None else kept_rows(outputs, signature, kept_bytes)
        writer.add(GoldenCase(case, inputs, take_rows(outputs, rows, signature), rows, computed_by, why, noise))
    writer.close()
    return Golden(folder)


def _cases_of_the_table(
    signature: Signature, profiles: Sequence[Profile]
) -> Iterator[tuple[Case, dict[str, np.ndarray[Any, Any]]]]:
    for case in dict.fromkeys(case for sizes in profiles for case in case_table(signature, sizes)):
        yield case, case_inputs(signature, case)


def origin(checkpoint: Checkpoint, command: str, given: GivenCases | None = None) -> dict[str, Any]:
    """Digests, versions, seed, options and command: what the tensors of a golden hang on.

    The tokenizer is among the digests where texts went through it.
    """
    import tokenizers
    import torch
    import transformers

    texts = given is not None and given.tokenized
    return {
        "checkpoint_sha256": checkpoint_digests(checkpoint.folder, tokenizer=texts),
        "versions": {
            "lat-export": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
            **({"tokenizers": tokenizers.__version__} if texts else {}),
        },
        "cases": "given" if given else "table",
        "given_sha256": given.files if given else {},
        "seed": SEED,
        "dtype": "float32",
        "semantics": checkpoint.options.semantics,
        "options": asdict(checkpoint.options),
        "command": command,
    }


def checkpoint_digests(folder: Path, *, tokenizer: bool = False) -> dict[str, str]:
    """SHA-256 by file name of a checkpoint's config and weights, and of its tokenizer where that is wanted."""
    parts = [*CONFIG_AND_WEIGHTS, *([TOKENIZER_FILE] if tokenizer else [])]
    return {path.name: file_sha256(path) for path in sorted(file for part in parts for file in folder.glob(part))}


class _Reference:
    """Computes a case in PyTorch: transformers where it can, our own reference where it raises."""

    def __init__(self, loaded: Loaded, shaken_by: float) -> None:
        self._loaded, self._shaken_by = loaded, shaken_by
        self._made: torch.nn.Module | None = None

    def _swapped(self) -> torch.nn.Module:
        if self._made is None:
            checkpoint = self._loaded.checkpoint
            self._made = checkpoint.family.swapped(self._loaded.model, checkpoint.options).eval()
        return self._made

    def noise(
        self, inputs: dict[str, np.ndarray[Any, Any]], outputs: dict[str, np.ndarray[Any, Any]]
    ) -> dict[str, float]:
        """How far right programs may be from `outputs`, as relative L2 by name; empty where rounding is all."""
        family, config = self._loaded.checkpoint.family, self._loaded.model.config
        found: dict[str, float] = {}
        for seed in NOISE_SEEDS:
            shaken = family.shaken(config, self._swapped(), seed, self._shaken_by)
            if shaken is None:
                return {}
            with shaken:
                moved = self._run(self._swapped(), inputs)
            for name, array in outputs.items():
                found[name] = max(found.get(name, 0.0), difference(moved[name], array).relative_l2)
        return found

    def __call__(
        self, case: Case, inputs: dict[str, np.ndarray[Any, Any]]
    ) -> tuple[dict[str, np.ndarray[Any, Any]], str, str | None]:
        checkpoint = self._loaded.checkpoint
        family, config = checkpoint.family, self._loaded.model.config
        mask = inputs["attention_mask"]
        why = family.why_not_transformers(config, checkpoint.options)
        why = why or family.why_not_of_this_shape(config, rows=mask[..., 0].size, tokens=mask.shape[-1])
        if why is None:
            try:
                return self._run(self._loaded.model, inputs), "transformers", None
            except (RuntimeError, ValueError, AssertionError) as error:
                if "allocate memory" in str(error):
                    raise
                why = first_line(error)
        try:
            return self._run(self._swapped(), inputs), "lat-export reference", why
        except Exception as error:
            raise InternalError(
                "neither transformers nor the reference can run a case",
                got=f"{case.name}: {error}",
                where={"stage": "record"},
            ) from error

    def _run(self, model: torch.nn.Module, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        import torch

        with torch.inference_mode(), quiet_transformers():
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            outputs = model(**tensors, **wanted_groups(self._loaded.signature))
            if model is self._loaded.model:
                masks = {name: tensor for name, tensor in tensors.items() if name.endswith("_mask")}
                outputs = self._loaded.checkpoint.family.mended(outputs, **masks)
        found = {spec.name: picked(outputs, spec.name).numpy() for spec in self._loaded.signature.outputs}
        self._check(found, inputs)
        return found

    def _check(self, outputs: dict[str, np.ndarray[Any, Any]], inputs: dict[str, np.ndarray[Any, Any]]) -> None:
        """A module that broadcasts where it should refuse, or gives NaN, is no reference."""
        for name, expected in self._loaded.signature.output_shapes(inputs).items():
            if outputs[name].shape != expected:
                raise ValueError(f"{name} has shape {outputs[name].shape} instead of {expected}")
            if not np.isfinite(outputs[name]).all():
                raise ValueError(f"{name} has NaN or Inf")
