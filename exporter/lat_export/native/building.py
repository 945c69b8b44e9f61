"""How a checkout builds its native ops."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

from lat_export.errors import LatExportError, MissingError
from lat_export.native.library import ADVICE, BUILD, SOURCES, Plugins, folders, plugins

TOOLS = ("cmake", "ninja", "c++")


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
