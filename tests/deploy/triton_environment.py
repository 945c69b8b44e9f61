"""Makes the environment of a real Triton Inference Server: the one in PyPI's nvidia-pytriton, with its python backend.

    python tests/deploy/triton_environment.py build/triton-server [ARGUMENT OF PIP ...]
    build/triton-server/bin/tritonserver --model-repository=...

`make triton-server` does the first line. The environment is not the one that runs the tests: the server's stub (that of
0.5.13 and 0.7.0, server 2.51) reads numpy's arrays as those of numpy 1 are, and sees tensors without elements in numpy
2. onnxruntime and tokenizers are of the versions here, so that both sides of a comparison run the same.

Where PyPI has no server for this machine, the reason is told and kept in left-out.txt, which the tests skip with; the
exit code is 0, for nothing else hangs on it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SERVER = Path("lib", f"python{VERSION}", "site-packages", "pytriton", "tritonserver")
STUB = "triton_python_backend_stub"
READY, LEFT_OUT = "ready.txt", "left-out.txt"
# The wheel's tag is manylinux_2_35_x86_64.
PLATFORM = ("Linux", "x86_64")
INSTALL_S = 300.0
# Exit codes of the shell and of the loader: may not be run, lacks a library.
NOT_STARTED = (126, 127)


class LeftOutError(Exception):
    """Why there can be no server here."""


def main() -> None:
    folder, pip_arguments = Path(sys.argv[1]).absolute(), sys.argv[2:]
    wanted = packages()
    if is_made(folder, wanted):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        make(folder, wanted, pip_arguments)
    except LeftOutError as reason:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / LEFT_OUT).write_text(f"{reason}\n")
        print(f"no Triton Inference Server here, its tests are skipped: {reason}", file=sys.stderr)
        return
    (folder / READY).write_text("\n".join(wanted))


def packages() -> list[str]:
    """Requirements; installed without those of their own, of which serving needs none."""
    same = [f"{name}=={importlib.metadata.version(name)}" for name in ("onnxruntime", "tokenizers")]
    return ["nvidia-pytriton>=0.5.13", "numpy>=1.26,<2", *same]


def is_made(folder: Path, wanted: list[str]) -> bool:
    file = folder / READY
    return file.is_file() and file.read_text().splitlines() == wanted


def make(folder: Path, wanted: list[str], pip_arguments: list[str]) -> None:
    """
    Raises:
        LeftOutError: no server for this machine, or PyPI could not be reached.
    """
    if (platform.system(), platform.machine()) != PLATFORM:
        raise LeftOutError(f"nvidia-pytriton is for {' '.join(PLATFORM)}, not {platform.system()} {platform.machine()}")
    run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-deps", "--no-compile", *pip_arguments, *wanted])
    complete(folder)


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise LeftOutError(f"{' '.join(command[1:4])} took longer than {INSTALL_S:.0f} s") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise LeftOutError(f"{' '.join(command[1:4])} failed: {errors[-1] if errors else 'without a word'}")


def complete(folder: Path) -> None:
    """What the wheel leaves to pytriton: the stub of this Python, the bits to run, and a program that starts it all."""
    server = folder / SERVER
    given = server / "python_backend_stubs" / VERSION / STUB
    if not given.is_file():
        known = ", ".join(sorted(path.name for path in given.parents[1].glob("3.*")))
        raise LeftOutError(f"nvidia-pytriton has a stub for Python {known}, not {VERSION}")
    stub = shutil.copy(given, server / "backends" / "python" / STUB)
    for program in (stub, server / "bin" / "tritonserver"):
        Path(program).chmod(0o755)
    start = folder / "bin" / "tritonserver"
    start.write_text(launcher(server.relative_to(folder)))
    start.chmod(0o755)
    demand_loads([str(stub)], {**os.environ, "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))})
    demand_loads([str(start), "--help"], dict(os.environ))


def demand_loads(command: list[str], variables: dict[str, str]) -> None:
    """The stub ends with an error of its own without arguments: what counts is that its libraries are found."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=60)
    if done.returncode in NOT_STARTED:
        raise LeftOutError(f"{Path(command[0]).name} does not start: {done.stderr.strip()}")


def launcher(server: Path) -> str:
    """A shell script: the stub reads no PYTHONPATH, its packages are those of the python3 that comes first in PATH."""
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:$here/{server.parents[1]}/nvidia_pytriton.libs"
    return f"""#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/bin:$PATH"
export LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
unset PYTHONHOME
exec "$here/{server}/bin/tritonserver" --backend-directory="$here/{server}/backends" "$@"
"""


if __name__ == "__main__":
    main()
