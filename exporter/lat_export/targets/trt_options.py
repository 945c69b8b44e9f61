"""Which builder options the TensorRT library at hand has: asked of the library itself, before anything is built.

What an option needs is a name in the library's Python module, so a version that lacks it is found out. TensorRT-RTX has
some of those names and no effect behind them; what it does instead was tried with 1.7.1 on a machine without a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lat_export.engine_options import FLAGS, EngineOptions
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.targets.tensorrt_build import capability_name

WHERE = {"stage": "build"}
# By field of `EngineOptions`, what the library's Python module must have.
NEEDS: dict[str, tuple[str, ...]] = {
    "workspace_bytes": ("IBuilderConfig.set_memory_pool_limit", "MemoryPoolType.WORKSPACE"),
    "opt_level": ("IBuilderConfig.builder_optimization_level",),
    "timing_cache": ("IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache", "ITimingCache.serialize"),
    "version_compatible": ("BuilderFlag.VERSION_COMPATIBLE",),
    "hardware_compatible": ("IBuilderConfig.hardware_compatibility_level", "HardwareCompatibilityLevel.AMPERE_PLUS"),
    "strip_weights": ("BuilderFlag.STRIP_PLAN", "BuilderFlag.REFIT_IDENTICAL"),
    "refittable": ("BuilderFlag.REFIT",),
    "profiling_verbosity": ("IBuilderConfig.profiling_verbosity", "ProfilingVerbosity.DETAILED"),
    "embed_plugins": ("IBuilderConfig.plugins_to_serialize", "Runtime.engine_host_code_allowed"),
    "compute_capabilities": ("IBuilderConfig.set_compute_capability", "IBuilderConfig.num_compute_capabilities"),
    "runtime_cache": ("ICudaEngine.create_runtime_config", "IRuntimeConfig.create_runtime_cache"),
}
# The same for one value of an option.
VALUE_NEEDS = {("hardware_compatible", "same-compute-capability"): "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"}


@dataclass(frozen=True)
class Refusal:
    """Why a library that has an option's names has not the option.

    Attributes:
        why: in its own words, where it has any.
        without_gpu: only a machine without a GPU is refused it.
    """

    why: str
    hint: str
    without_gpu: bool = False


RTX_REFUSES = {
    "timing_cache": Refusal(
        "Timing cache operations are no-ops in TensorRT-RTX (its own warning)",
        "leave it out: nothing is timed when an RTX engine is built; --runtime-cache keeps what its runs compile",
    ),
    "version_compatible": Refusal(
        "its package has no lean runtime: Unable to load library: libnvinfer_lean.so.1",
        "build again for each version of TensorRT-RTX; that takes seconds",
    ),
    "hardware_compatible": Refusal(
        "setHardwareCompatibilityLevel() is unsupported in TensorRT-RTX (its own warning)",
        "name the GPUs, --compute-capability 8.6 --compute-capability 8.9, or none: then it is for all that it knows",
    ),
    "embed_plugins": Refusal("it has no plugins", "leave it out: every lat node runs as its ONNX function body"),
    "strip_weights": Refusal(
        "without a GPU it ends with: MyelinCheckException: graph_jit.cpp:278: CHECK(status == CUDA_SUCCESS) failed",
        "build on a machine with a GPU, or leave it out",
        without_gpu=True,
    ),
    "refittable": Refusal(
        "without a GPU it ends with: MyelinCheckException: graph_jit.cpp:278: CHECK(status == CUDA_SUCCESS) failed",
        "build on a machine with a GPU, or leave it out",
        without_gpu=True,
    ),
}


def demand_options(
    options: EngineOptions, title: str, module: str, refuses: Mapping[str, Refusal], *, has_gpu: bool
) -> None:
    """
    Args:
        title, module: of the library, which is here.
        refuses: by field of `EngineOptions`.
    Raises:
        InputError: an option that the library does not have, or a value of one.
        MissingError: an option that it has on a machine with a GPU only.
    """
    if not options.given:
        return
    for name, value in options.given.items():
        refusal = refuses.get(name)
        if refusal is not None and not (refusal.without_gpu and has_gpu):
            kind: type[LatExportError] = MissingError if refusal.without_gpu else InputError
            what = f"{title} does not have {FLAGS[name]}" + (
                " on a machine without a GPU" if refusal.without_gpu else ""
            )
            raise kind(what, got=f"{_words(name, value)}: {refusal.why}", hint=refusal.hint, where=WHERE)
    needed = {name: [*NEEDS[name], *_needs_of(name, value)] for name, value in options.given.items()}
    lacking = set(absent(module, [part for parts in needed.values() for part in parts]))
    for name, parts in needed.items():
        if wanting := [part for part in parts if part in lacking]:
            raise InputError(
                f"the {title} of this machine does not have {_words(name, options.given[name])}",
                got=f"no {', '.join(wanting)} in its Python module {module}",
                expected=_known(name, module),
                hint="another version of it, or another value, or leave the option out",
                where=WHERE,
            )


ABSENT = """
import functools, importlib, json, sys
module = importlib.import_module(sys.argv[1])
def has(part):
    return functools.reduce(lambda at, name: getattr(at, name, None), part.split("."), module) is not None
print(json.dumps([part for part in json.loads(sys.argv[2]) if not has(part)]))
"""
MEMBERS = """
import importlib, json, sys
found = getattr(importlib.import_module(sys.argv[1]), sys.argv[2], None)
print(json.dumps(sorted(getattr(found, "__members__", {}))))
"""


def absent(module: str, parts: list[str]) -> list[str]:
    """Those of `parts`, as "BuilderFlag.REFIT", that a Python module has not. It is imported in another process."""
    return list(_ask(ABSENT, module, json.dumps(parts)))


def members(module: str, enumeration: str) -> list[str]:
    """Names of the members of an enumeration of a Python module; none where it is not there."""
    return list(_ask(MEMBERS, module, enumeration))


def _ask(code: str, *arguments: str) -> Any:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"the Python package {arguments[0]} does not load", got=done.stderr.strip()[-500:])
    return json.loads(done.stdout)


def _needs_of(name: str, value: Any) -> list[str]:
    if name == "compute_capabilities":
        return [f"ComputeCapability.{capability_name(one)}" for one in value]
    return [VALUE_NEEDS[name, value]] if (name, value) in VALUE_NEEDS else []


def _known(name: str, module: str) -> str | None:
    return None if name != "compute_capabilities" else ", ".join(known_capabilities(module)) or None


def known_capabilities(module: str) -> list[str]:
    """Compute capabilities that TensorRT-RTX can be asked to build for, as "8.6", smallest first."""
    known = [name for name in members(module, "ComputeCapability") if name.startswith("SM")]
    return [f"{name[2:-1]}.{name[-1]}" for name in sorted(known, key=lambda name: int(name[2:]))]


def _words(name: str, value: Any) -> str:
    if value is True:
        return FLAGS[name]
    return f"{FLAGS[name]} {' '.join(value) if isinstance(value, tuple) else value}"
