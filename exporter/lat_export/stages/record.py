"""record: PyTorch's outputs for a table of cases -> golden tensors in the bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lat_export import __version__
from lat_export.digest import file_sha256
from lat_export.errors import InternalError, first_line
from lat_export.quiet import quiet_transformers
from lat_export.stages.load import Checkpoint, Loaded
from lat_export.stages.signature import picked, wanted_groups
from lat_export.types import Range, size_with_globals
from lat_export.validation.cases import SEED, Case, case_inputs, case_table
from lat_export.validation.compare import difference
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


def record(
    loaded: Loaded, folder: Path, sizes: dict[str, Range] | None = None, kept_bytes: int = KEPT_BYTES_PER_CASE
) -> Golden:
    """Run transformers' own modules over the case table and write the golden tensors into `folder`.

    Args:
        sizes: sizes that the artifacts are for; cases outside are not made.
        kept_bytes: outputs that are larger together keep only some positions of the sequence.

    Where transformers cannot run a case, the family's swapped module (the PyTorch references of the ops) does; the
    manifest says so case by case.
    """
    signature = loaded.signature
    writer = GoldenWriter(folder, signature, origin(loaded.checkpoint))
    reference = _Reference(loaded)
    for case in case_table(signature, sizes):
        inputs = case_inputs(signature, case)
        outputs, computed_by, why = reference(case, inputs)
        noise = reference.noise(inputs, outputs)
        rows = kept_rows(outputs, signature, kept_bytes)
        writer.add(GoldenCase(case, inputs, take_rows(outputs, rows, signature), rows, computed_by, why, noise))
    writer.close()
    return Golden(folder)


def origin(checkpoint: Checkpoint) -> dict[str, Any]:
    """Digests, versions and seed: what the tensors of a golden hang on."""
    import torch
    import transformers

    parts = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*", "tf_model.h5")
    files = sorted(path for part in parts for path in checkpoint.folder.glob(part))
    return {
        "checkpoint_sha256": {path.name: file_sha256(path) for path in files},
        "versions": {"lat-export": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "seed": SEED,
        "dtype": "float32",
        "options": asdict(checkpoint.options),
    }


class _Reference:
    """Computes a case in PyTorch: transformers where it can, our own reference where it raises."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
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
            shaken = family.shaken(config, self._swapped(), seed)
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
        why = checkpoint.family.why_not_transformers(self._loaded.model.config, checkpoint.options)
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
        signature = self._loaded.signature
        sizes = dict(zip(signature.token_dims, inputs["attention_mask"].shape, strict=True))
        sizes["*".join(str(dim) for dim in signature.token_dims[:-1])] = inputs["attention_mask"][..., 0].size
        most_globals = signature.most_globals(inputs)
        for spec in signature.outputs:
            expected = tuple(sizes.get(dim, size_with_globals(dim, most_globals)) for dim in spec.dims)
            if outputs[spec.name].shape != expected:
                raise ValueError(f"{spec.name} has shape {outputs[spec.name].shape} instead of {expected}")
            if not np.isfinite(outputs[spec.name]).all():
                raise ValueError(f"{spec.name} has NaN or Inf")
