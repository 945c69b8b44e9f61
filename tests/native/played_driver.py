"""NVIDIA's driver, played by the host: compiled from tests/native/cuda_driver, for processes of tests to load."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent / "cuda_driver" / "playing_cuda.c"


@pytest.fixture(scope="session")
def played_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda.so.1; its folder in LD_LIBRARY_PATH puts it before a real one."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, for a driver that the host plays")
    library = tmp_path_factory.mktemp("played driver") / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, SOURCE, "-o", library], check=True)
    return library
