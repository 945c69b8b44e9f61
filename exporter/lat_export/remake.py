"""The command that makes a file again, as the file itself records it: no path of the machine that made it is in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lat_export.engine_options import FLAGS
from lat_export.profiles import profile_text
from lat_export.types import ModelSpec, Options

PROGRAM = "lat-export"


def portable(path: str | Path) -> str:
    """A relative path or a hub id as it was given; of an absolute path the last part."""
    given = Path(path)
    if not given.is_absolute():
        return str(path)
    return given.name or "."


def export_command(spec: ModelSpec) -> str:
    """The `lat-export model` of an export."""
    ranges = (("--batch", spec.batch), ("--seq", spec.sequence), ("--choices", spec.choices))
    words = ["model", portable(spec.model), "--to", spec.target, *(["--kit"] if spec.kit else [])]
    words += [word for name, sizes in ranges if sizes is not None for word in (name, str(sizes))]
    words += [word for profile in spec.profiles for word in ("--profile", profile_text(profile))]
    if spec.max_global is not None:
        words += ["--max-global", str(spec.max_global)]
    words += [word for name, value in spec.engine.given.items() for word in _engine_option(FLAGS[name], value)]
    words += _precision(spec)
    if spec.keep_fp32 is not None:
        words += ["--keep-fp32", ",".join(spec.keep_fp32) or "none"]
    return command(*words, *_choices(spec), "--out", portable(spec.out), "--force")


def golden_command(spec: ModelSpec, texts: Path | None, arrays: Iterable[Path], *, all_rows: bool) -> str:
    """The `lat-export golden make` of a checkpoint's golden tensors."""
    words = ["golden", "make", portable(spec.model), *_choices(spec)]
    words += ["--texts", portable(texts)] if texts is not None else []
    words += [word for path in arrays for word in ("--arrays", portable(path))]
    words += _precision(spec)
    words += ["--all-rows"] if all_rows else []
    return command(*words, "--out", portable(spec.out), "--force")


def command(*words: str) -> str:
    """One line for a shell."""
    return shlex.join([PROGRAM, *words])


def _engine_option(flag: str, value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [word for one in value for word in (flag, one)]
    return [flag] if value is True else [flag, portable(value) if isinstance(value, Path) else str(value)]


def _precision(spec: ModelSpec) -> list[str]:
    return [] if spec.precision == "fp32" else ["--precision", spec.precision]


def _choices(spec: ModelSpec) -> list[str]:
    """Options that say which model is meant, and what it takes and gives; defaults are left out."""
    usual = Options()
    words = ["--task", spec.task] if spec.task else []
    words += ["--inputs", ",".join(spec.inputs)] if spec.inputs else []
    words += ["--outputs", ",".join(spec.outputs)] if spec.outputs else []
    if spec.options.semantics != usual.semantics:
        words += ["--semantics", spec.options.semantics]
    if spec.options.hash_seed != usual.hash_seed:
        words += ["--hash-seed", str(spec.options.hash_seed)]
    if spec.options.num_hash is not None:
        words += ["--num-hash", str(spec.options.num_hash)]
    return words + (["--allow-pickle"] if spec.allow_pickle else [])
