"""A real Triton Inference Server on loopback, in the environment that triton_environment.py makes.

LAT_TRITON names another folder of the kind than build/triton-server, where `make test` has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.triton_environment import LEFT_OUT, READY

ROOT = Path(__file__).resolve().parents[2]
FOLDER_VARIABLE = "LAT_TRITON"
READY_S = 120.0
STOP_S = 20.0


def environment() -> Path:
    """Where the server is, if it is anywhere."""
    return Path(os.environ.get(FOLDER_VARIABLE) or ROOT / "build" / "triton-server").absolute()


def why_not() -> str | None:
    """Why there is no server, or None."""
    folder = environment()
    if (folder / READY).is_file():
        return None
    left_out = folder / LEFT_OUT
    return f"no Triton Inference Server: {left_out.read_text() if left_out.is_file() else 'make triton-server'}".strip()


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


def start(repository: Path, scratch: Path, *options: str) -> Server:
    """
    Args:
        scratch: where its log goes.
    Raises:
        RuntimeError: it is not ready in time; with its log.
    """
    ports = [free_port() for _ in range(2)]
    memory = f"lat{ports[0]}-"
    log = scratch / f"server-{ports[0]}.log"
    variables = {name: value for name, value in os.environ.items() if name != "LAT_EXPORT_PLUGINS"}
    command = [
        str(environment() / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        f"--http-port={ports[0]}",
        f"--grpc-port={ports[1]}",
        "--allow-metrics=false",
        f"--backend-config=python,shm-region-prefix-name={memory}",
        *options,
    ]
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
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
def serving(repository: Path, scratch: Path, *options: str) -> Iterator[Server]:
    server = start(repository, scratch, *options)
    try:
        yield server
    finally:
        server.stop()
