"""A bundle checked again, on any machine: digests, golden tensors, artifacts. Needs no PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from lat_export.errors import InputError, first_line
from lat_export.stages.bundle import read_bundle
from lat_export.stages.validate import validate
from lat_export.targets import target_named
from lat_export.validation.golden import Golden
from lat_export.validation.report import Report


def revalidate(folder: Path, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Check a bundle's digests and run its artifacts against its golden tensors again.

    Raises:
        InputError: no bundle, or one without golden tensors.
        ParityError: a file was changed.
    """
    bundle = read_bundle(folder)
    if bundle.manifest["validated"] is None:
        raise InputError("the bundle holds no golden tensors", got=folder, hint="export it without --no-validate")
    target = target_named(bundle.manifest["target"])
    try:
        with tempfile.TemporaryDirectory(prefix="lat-export-") as scratch:
            return validate(folder, target, bundle.plan, bundle.forms, Golden(folder), Path(scratch), tell)
    except OSError as error:
        raise InputError(
            "the temporary folder cannot be written",
            got=first_line(error),
            expected="room for the model once more",
            hint="set TMPDIR to another place",
        ) from error
