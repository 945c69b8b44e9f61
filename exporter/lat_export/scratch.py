"""A temporary folder for models on their way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lat_export.errors import InputError, first_line


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
