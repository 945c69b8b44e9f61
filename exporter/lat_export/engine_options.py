"""How an engine is built, beside the sizes that it is for: the options of TensorRT's builder, as a user names them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lat_export.errors import InputError

HARDWARE_LEVELS = ("ampere+", "same-compute-capability")
VERBOSITIES = ("none", "layer-names", "detailed")
OPT_LEVELS = range(6)
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:iB|B)?", re.IGNORECASE)
CAPABILITY = re.compile(r"(?:sm_?)?(\d{1,2})\.?(\d)", re.IGNORECASE)
# What a run of the engine takes, and the build has no use for.
AT_RUN_TIME = ("runtime_cache",)


@dataclass(frozen=True)
class EngineOptions:
    """What is None, empty or False is left to the library.

    Attributes:
        workspace_bytes: most scratch memory that a layer may take on the device.
        opt_level: 0 builds fastest, 5 looks longest for fast kernels.
        timing_cache: file of timings of kernels, read where it is there, and written.
        version_compatible: the engine runs in later versions of TensorRT too.
        hardware_compatible: of `HARDWARE_LEVELS`: the engine runs on other GPUs too.
        strip_weights: the engine file has no weights; `lat-export refit` puts them in.
        refittable: weights can be changed; together with `strip_weights`, to those of any checkpoint.
        profiling_verbosity: of `VERBOSITIES`: what the engine inspector and profilers can tell.
        embed_plugins: the plugin library is written into the engine.
        compute_capabilities: GPUs that an engine of TensorRT-RTX is for, as "8.6".
        runtime_cache: file of what TensorRT-RTX compiles when its engine first runs on a GPU.
    """

    workspace_bytes: int | None = None
    opt_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    strip_weights: bool = False
    refittable: bool = False
    profiling_verbosity: str | None = None
    embed_plugins: bool = False
    compute_capabilities: tuple[str, ...] = ()
    runtime_cache: Path | None = None

    def __post_init__(self) -> None:
        _demand("--opt-level", self.opt_level, tuple(OPT_LEVELS))
        _demand("--hardware-compatible", self.hardware_compatible, HARDWARE_LEVELS)
        _demand("--profiling-verbosity", self.profiling_verbosity, VERBOSITIES)
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise InputError(
                "no room for a workspace", got=f"--workspace {self.workspace_bytes}", expected="at least 1"
            )
        if doubles := {one for one in self.compute_capabilities if self.compute_capabilities.count(one) > 1}:
            raise InputError("the same compute capability twice", got=", ".join(sorted(doubles)))

    @property
    def given(self) -> dict[str, Any]:
        """Value by field of what the user asked for."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        # By identity: level 0 is something to ask for.
        return {name: value for name, value in values.items() if not (value is None or value is False or value == ())}

    def to_json(self) -> dict[str, Any]:
        """What the build was asked for; files by their names, not by where they lay."""
        build = {name: value for name, value in self.given.items() if name not in AT_RUN_TIME}
        return {name: value.name if isinstance(value, Path) else value for name, value in build.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EngineOptions:
        found: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        if "timing_cache" in found:
            found["timing_cache"] = Path(found["timing_cache"])
        return cls(**found)


# Option on the command line by field.
FLAGS = {
    "workspace_bytes": "--workspace",
    "opt_level": "--opt-level",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "hardware_compatible": "--hardware-compatible",
    "strip_weights": "--strip-weights",
    "refittable": "--refittable",
    "profiling_verbosity": "--profiling-verbosity",
    "embed_plugins": "--embed-plugins",
    "compute_capabilities": "--compute-capability",
    "runtime_cache": "--runtime-cache",
}


def parse_size(text: str) -> int:
    """Bytes of `"4096"`, `"512M"` or `"2GiB"`; K, M and G are powers of 1024, as for trtexec.

    Raises:
        InputError: anything else, or 0.
    """
    found = SIZE.fullmatch(text.strip())
    size = int(found[1]) * UNITS[found[2].upper()] if found else 0
    if size < 1:
        raise InputError(
            "a size is a number of bytes, with K, M or G", got=repr(text), expected="for example 512M or 2G"
        )
    return size


def parse_capability(text: str) -> str:
    """`"8.6"` of `"8.6"`, `"86"` or `"sm_86"`; `"current"` is this machine's own.

    Raises:
        InputError: anything else.
    """
    found = CAPABILITY.fullmatch(text.strip())
    if text.strip().lower() == "current":
        return "current"
    if not found:
        raise InputError("no such compute capability", got=repr(text), expected="for example 8.6 or 12.0, or current")
    return f"{found[1]}.{found[2]}"


def _demand(flag: str, value: object, known: tuple[object, ...]) -> None:
    if value is not None and value not in known:
        raise InputError(f"{flag} has no such value", got=value, expected=", ".join(map(str, known)))
