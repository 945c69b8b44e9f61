"""The native ops of this installation: where their libraries are, what is in them, and how a checkout builds them.

They are looked for in the folder that LAT_EXPORT_PLUGINS names, else in `build/plugins` of the checkout, else in the
package. Without them every `lat` node runs as its ONNX function body.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lat_export.errors import LatExportError, MissingError

FOLDER_VARIABLE = "LAT_EXPORT_PLUGINS"
ORT_LIBRARY = "liblat_ort.so"
KERNELS_LIBRARY = "liblat_kernels.so"
CONTENTS = "plugins.json"

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE.parents[1] / "plugins"
BUILD = PACKAGE.parents[1] / "build" / "plugins"
TOOLS = ("cmake", "ninja", "c++")
ADVICE = "lat-export plugins build, in a checkout with cmake, ninja and a C++17 compiler"


@dataclass(frozen=True)
class Plugins:
    """Built native ops.

    Attributes:
        kernels: names of the ops, in snake case, that have a CPU kernel.
        onnxruntime: those that onnxruntime can run; none where its headers were missing.
        archs: instruction sets that each kernel was compiled for.
        left_out: reason by what was not built.
    """

    folder: Path
    kernels: tuple[str, ...]
    onnxruntime: tuple[str, ...]
    archs: tuple[str, ...]
    compiler: str
    left_out: dict[str, str]

    @property
    def arch(self) -> str:
        """The instruction set that the kernels take on this processor."""
        try:
            library = ctypes.CDLL(str(self.folder / KERNELS_LIBRARY))
        except OSError as error:
            raise MissingError("the native ops do not load", got=error, hint=ADVICE) from error
        library.lat_cpu_arch_name.restype = ctypes.c_char_p
        name: bytes = library.lat_cpu_arch_name()
        return name.decode()


def folders() -> list[Path]:
    """Where to look, in this order; a folder that the environment names is the only one."""
    named = os.environ.get(FOLDER_VARIABLE)
    return [Path(named)] if named else [BUILD, PACKAGE / "_native"]


def plugins() -> Plugins | None:
    """The native ops that are there, if any."""
    for folder in folders():
        if (folder / KERNELS_LIBRARY).is_file() and (folder / CONTENTS).is_file():
            contents = json.loads((folder / CONTENTS).read_text())
            return Plugins(
                folder.resolve(),
                tuple(contents["kernels"]),
                tuple(contents["onnxruntime"]),
                tuple(contents["archs"]),
                contents["compiler"],
                contents["left_out"],
            )
    return None


def ort_library() -> Path | None:
    """What `SessionOptions.register_custom_ops_library` takes, if it is there."""
    found = plugins()
    library = found.folder / ORT_LIBRARY if found else None
    return library if library and library.is_file() else None


def demand_ort_library() -> Path:
    """
    Raises:
        MissingError: there is none; it says why.
    """
    library = ort_library()
    if library:
        return library
    found = plugins()
    why = found.left_out.get("liblat_ort") if found else None
    raise MissingError(
        "the native ops of ONNX Runtime are missing",
        got=why or f"no {ORT_LIBRARY} in {', '.join(map(str, folders()))}",
        hint=ADVICE,
    )


def build(tell: Callable[[str], None]) -> Plugins:
    """Compile the checkout's `plugins/` into its `build/plugins`.

    Raises:
        MissingError: no sources, or no tool to build them with.
        LatExportError: the build failed; with the end of its output.
    """
    if not (SOURCES / "CMakeLists.txt").is_file():
        raise MissingError("no sources of the native ops: this is not a checkout", got=SOURCES, hint=ADVICE)
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        raise MissingError(
            "the native ops cannot be built", got=f"no {', '.join(lacking)}", hint="apt install cmake ninja-build g++"
        )
    # A newer compiler's new warning is no reason to have no native ops; the checks in `make sanitize` are stricter.
    lenient = "--compile-no-warning-as-error"
    _run(["cmake", "-S", str(SOURCES), "-B", str(BUILD), "-G", "Ninja", lenient], "configure", tell)
    _run(["cmake", "--build", str(BUILD)], "compile", tell)
    built = plugins()
    if built is None:
        raise MissingError("the native ops were built elsewhere", got=BUILD, expected=folders()[0], hint=ADVICE)
    return built


def _run(command: list[str], step: str, tell: Callable[[str], None]) -> None:
    tell(f"plugins: {step}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise LatExportError(
            f"the native ops do not {step}", got="\n".join(lines[-30:]), where={"command": " ".join(command)}
        )
