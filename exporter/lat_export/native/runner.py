"""How a checkout builds the edge runner, `runner/`: for this machine or for another processor."""

from __future__ import annotations

import fcntl
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lat_export.errors import InputError, MissingError
from lat_export.native.building import PLATFORMS, run_step, toolchain
from lat_export.native.library import BUILD, SOURCES, folders

RUNNER_SOURCES = SOURCES.parent / "runner"
# What of the build kit the runner is compiled with.
SHARED_SOURCES = SOURCES.parent / "kit" / "lat_run"
LIBRARY = "liblat_runner.so"
PROGRAM = "lat_edge"
HEADER = "lat_runner.h"
C_API = "onnxruntime_c_api.h"
SUFFIXES = (".h", ".cpp", ".txt", ".map")
ADVICE = "a checkout of lat-export with cmake, ninja and a C++17 compiler"


@dataclass(frozen=True)
class RunnerBuild:
    """
    Attributes:
        c_api: onnxruntime's header that it was compiled with.
    """

    library: Path
    program: Path
    c_api: Path


def build_runner(processor: str, tell: Callable[[str], None]) -> RunnerBuild:
    """Compile it into `build/runner`, or `build/runner-PROCESSOR` for another one. What is up to date is left alone.

    Raises:
        InputError: no such processor to build for.
        MissingError: no sources, no tool, or no header of onnxruntime.
        LatExportError: the build failed; with the end of its output.
    """
    here = processor == platform.machine()
    if not here and processor not in PLATFORMS:
        known = sorted({platform.machine(), *PLATFORMS})
        raise InputError("no such platform to build for", got=processor, expected=", ".join(known))
    if not (RUNNER_SOURCES / "CMakeLists.txt").is_file():
        raise MissingError("no sources of the edge runner: this is not a checkout", got=RUNNER_SOURCES, hint=ADVICE)
    options = toolchain(None if here else processor, "the edge runner cannot be built")
    folder = BUILD.with_name("runner" if here else f"runner-{processor}")
    headers = _headers()
    if headers:
        options.append(f"-DONNXRUNTIME_INCLUDE_DIR={headers}")
    sources = ["-S", str(RUNNER_SOURCES), "-B", str(folder), "-G", "Ninja", "--compile-no-warning-as-error"]
    folder.mkdir(parents=True, exist_ok=True)
    # Two bundles at once would build in one folder.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command, step in (
            (["cmake", *sources, *options], "configure"),
            (["cmake", "--build", str(folder), "--target", "lat_runner", PROGRAM], "compile"),
        ):
            run_step(command, step, tell, "the edge runner", "runner")
    return RunnerBuild(folder / LIBRARY, folder / PROGRAM, folder / C_API)


def sources() -> Iterator[tuple[Path, str]]:
    """Every source file that the runner is built from, and its name where they lie together."""
    for root, place in ((RUNNER_SOURCES, ""), (SHARED_SOURCES, f"{SHARED_SOURCES.name}/")):
        for path in sorted(root.iterdir()):
            if path.suffix in SUFFIXES:
                yield path, place + path.name


def _headers() -> Path | None:
    """Those that a build of the native ops has fetched, so that they are not fetched again."""
    return next((found for one in folders() if (found := one / "onnxruntime" / "include").is_dir()), None)
