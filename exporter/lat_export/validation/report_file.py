"""Results as files, of JSON or of HTML, that appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lat_export.errors import InputError
from lat_export.validation.report import Report


def write_json(path: Path, report: Report) -> None:
    """Raises InputError where the file cannot be written."""
    write_whole(path, json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n")


def write_page(path: Path, report: Report) -> None:
    """Raises InputError where the file cannot be written."""
    from lat_export.validation.report_html import report_html

    write_whole(path, report_html(report.to_json()))


def demand_places(places: dict[str, Path | None], bundle: Path) -> None:
    """Before the work is done: every report has a place of its own, which can be written.

    Args:
        places: file by the option that names it; None where the option was not given.
        bundle: a folder that no report may go into: its manifest lists what it holds.
    Raises:
        InputError: names the option.
    """
    taken: dict[Path, str] = {}
    for option, path in places.items():
        if path is None:
            continue
        real = path.resolve()
        if real in taken:
            raise InputError(f"{taken[real]} and {option} name the same file", got=path)
        taken[real] = option
        if real.is_relative_to(bundle.resolve()):
            raise InputError(
                f"{option} lies in the bundle",
                got=path,
                hint="name a file elsewhere: a bundle holds what it was made with",
            )
        try:
            _scratch(real, "")
        except OSError as error:
            raise _not_written(option, path, error) from error
        _sibling(real).unlink()


def write_whole(path: Path, content: str | bytes, what: str = "the report") -> None:
    """Raises InputError, which says `what` cannot be written; then the file is as it was before."""
    real = path.resolve()
    try:
        try:
            _scratch(real, content)
            _sibling(real).replace(real)
        finally:
            _sibling(real).unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(what, path, error) from error


def _scratch(real: Path, content: str | bytes) -> None:
    """The content in a file beside the wanted one; a device, a pipe or a folder is never replaced."""
    if real.exists() and not real.is_file():
        raise IsADirectoryError(None, "not a regular file")
    if isinstance(content, str):
        _sibling(real).write_text(content, encoding="utf-8")
    else:
        _sibling(real).write_bytes(content)


def _sibling(real: Path) -> Path:
    return real.with_name(f".{real.name}.{os.getpid()}")


def _not_written(what: str, path: Path, error: OSError) -> InputError:
    return InputError(
        f"{what} cannot be written",
        got=f"{error.strerror}: {path}",
        expected="a file in a writable folder that exists",
    )
