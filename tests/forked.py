"""`lat-export` in a process of its own that has torch already: it is forked from one that has imported all of it.

It has its own exit code, file descriptors, environment and folder, as `python -m lat_export` has; the four seconds that
torch and transformers take to be imported are spent once a worker. What hangs on the start of Python (PYTHONPATH,
variables that a library reads when it is imported, the time to the first word) is for `started`.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# Threads do not outlive a fork: no module here may start one when it is imported.
CONTEXT.set_forkserver_preload(["torch", "onnxruntime", "lat_export.cli", "lat_export.pipeline", "lat_export.bench"])
MOST_SECONDS = 600


def lat_export(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `python -m lat_export ARGUMENTS` prints and ends with."""
    words = ["lat-export", *map(str, arguments)]
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        given = (words, str(cwd or Path.cwd()), {**os.environ, **environment}, str(out), str(err))
        process = CONTEXT.Process(target=_run, args=given)
        process.start()
        process.join(MOST_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, MOST_SECONDS, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def started(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m lat_export ARGUMENTS`, from the start of Python on."""
    command = [sys.executable, "-m", "lat_export", *map(str, arguments)]
    given = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=given)


def _run(words: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    import torch

    from lat_export.cli import main

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, name, file in ((1, "stdout", out), (2, "stderr", err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    tempfile.tempdir = None  # where TMPDIR says
    torch.set_num_threads(1)  # as in the tests themselves
    sys.argv = words
    main()
