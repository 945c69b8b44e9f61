"""A real Triton Inference Server on loopback: the one in PyPI's nvidia-pytriton, with its python backend.

It has an environment of its own, which LAT_TRITON names, because its stub (0.5.13, server 2.51) reads numpy's arrays as
those of numpy 1 are, and sees tensors without elements in numpy 2:

    python -m venv FOLDER && FOLDER/bin/pip install nvidia-pytriton onnxruntime tokenizers
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER_VARIABLE = "LAT_TRITON"
READY_S = 120.0
STOP_S = 20.0
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SERVER = Path("pytriton", "tritonserver")


def environment() -> Path | None:
    """The folder that LAT_TRITON names, if there is a server in it for this version of Python."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder and (packages(Path(folder)) / SERVER / "bin" / "tritonserver").is_file() else None


def packages(folder: Path) -> Path:
    return folder / "lib" / f"python{VERSION}" / "site-packages"


@dataclass
class Server:
    """
    Attributes:
        http, grpc: addresses.
        log: what the server says.
        memory: what the names of its shared memory begin with.
    """

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    log: Path
    memory: str

    def kill(self) -> None:
        """With all its children, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for left in Path("/dev/shm").glob(f"{self.memory}*"):
            left.unlink()

    def stop(self) -> None:
        """As an operator would; its process ends by itself."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=STOP_S)
        self.kill()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def start(folder: Path, repository: Path, scratch: Path, *options: str) -> Server:
    """
    Raises:
        RuntimeError: it is not ready in time; with its log.
    """
    root = scratch / "tritonserver"
    if not root.exists():
        given = packages(folder) / SERVER
        shutil.copytree(given, root, ignore=shutil.ignore_patterns("python_backend_stubs"))
        stub = root / "backends" / "python" / "triton_python_backend_stub"
        shutil.copy(given / "python_backend_stubs" / VERSION / stub.name, stub)
        for program in (stub, root / "bin" / "tritonserver"):
            program.chmod(0o755)
    ports = [free_port() for _ in range(2)]
    memory = f"lat{ports[0]}-"
    log = scratch / f"server-{ports[0]}.log"
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(packages(folder) / "nvidia_pytriton.libs")]
    variables = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "LAT_EXPORT_PLUGINS")},
        "LD_LIBRARY_PATH": ":".join(libraries),
        # The stub reads no PYTHONPATH: its packages are those of the python3 that comes first in PATH.
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        str(root / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={root / 'backends'}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        f"--http-port={ports[0]}",
        f"--grpc-port={ports[1]}",
        "--allow-metrics=false",
        f"--backend-config=python,shm-region-prefix-name={memory}",
        *options,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables, start_new_session=True)
    server = Server(process, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", log, memory)
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{server.http}/v2/health/ready", timeout=2):
            return server
        time.sleep(0.2)
    server.kill()
    raise RuntimeError(f"tritonserver is not ready\n{log.read_text(errors='replace')[-6000:]}")


@contextlib.contextmanager
def serving(folder: Path, repository: Path, scratch: Path, *options: str) -> Iterator[Server]:
    server = start(folder, repository, scratch, *options)
    try:
        yield server
    finally:
        server.stop()
