"""A bundle checked again, on any machine: digests, golden tensors, artifacts. Needs no PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lat_export.errors import InputError, first_line
from lat_export.stages.bundle import read_bundle
from lat_export.stages.validate import validate
from lat_export.targets import target_named
from lat_export.validation.check import Judge
from lat_export.validation.golden import Golden
from lat_export.validation.report import Report


def revalidate(
    folder: Path, judge: Judge | None = None, golden: Path | None = None, tell: Callable[[str], None] = lambda _: None
) -> Report:
    """Check a bundle's digests and run its artifacts against golden tensors again.

    Args:
        judge: tolerances and repetitions; target and ops are the bundle's own.
        golden: other golden tensors than the bundle's.
    Raises:
        InputError: no bundle, one without golden tensors, or golden tensors of another signature.
        ParityError: a file was changed.
    """
    bundle = read_bundle(folder)
    if golden is None and bundle.manifest["validated"] is None:
        raise InputError("the bundle holds no golden tensors", got=folder, hint="export it without --no-validate")
    target = target_named(bundle.manifest["target"])
    tensors = Golden(golden or folder)
    if tensors.signature.inputs != bundle.signature.inputs or tensors.signature.outputs != bundle.signature.outputs:
        raise InputError("the golden tensors are of another signature than the bundle", got=golden, expected=folder)
    judge = replace(judge or Judge(), target=target.name, ops=tuple(bundle.manifest["lat_nodes"]))
    with scratch_folder() as scratch:
        return validate(folder, target, bundle.plan, bundle.forms, tensors, scratch, judge, tell)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder; an error that names it where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="lat-export-") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise InputError(
            "the temporary folder cannot be written",
            got=first_line(error),
            expected="room for the model once more",
            hint="set TMPDIR to another place",
        ) from error
