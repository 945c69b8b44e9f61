"""lat_run's own calls into TensorRT and CUDA, with a runtime and a GPU that the host plays (lat_run_host/).

It shows that inputs, shapes and addresses reach the right calls in the right order, that every refusal is told, and
that no byte beside a tensor is touched. It says nothing of TensorRT itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kit_files
import numpy as np
import pytest

from lat_export import native

HOST = Path(__file__).resolve().parent / "lat_run_host"
HEADERS = [Path(folder) for folder in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if folder]
REFERENCE = np.arange(4, dtype=np.float32)[None] / 2
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", params=HEADERS or [None], ids=str)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    headers = request.param
    if headers is None:
        pytest.skip("no TensorRT headers: TENSORRT_INCLUDE_DIR names none")
    if any(shutil.which(tool) is None for tool in native.TOOLS):
        pytest.skip(f"needs {', '.join(native.TOOLS)}")
    folder = tmp_path_factory.mktemp("host")
    configure = ["cmake", "-S", HOST, "-B", folder, "-G", "Ninja", f"-DTENSORRT_INCLUDE_DIR={headers}"]
    for command in (
        [sys.executable, HOST / "stubs.py", headers, folder / "stubs" / "runtime_stubs.h"],
        [*configure, f"-DLAT_STUBS={folder / 'stubs'}"],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "cuda_include" in done.stderr:
            pytest.skip("no cuda_runtime_api.h, which TensorRT's headers include: CUDA_HOME names no CUDA toolkit")
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(build: Path, tmp_path: Path) -> Run:
    """lat_run with an engine that behaves as these words say."""

    def call(behaviour: str, *arguments: str, libraries: Path = build, **environment: str) -> Any:
        kit = kit_files.write_kit(tmp_path / "kit", REFERENCE, dtypes=["float32", "float16"])
        engine = tmp_path / "model.engine"
        engine.write_text(behaviour)
        env = {"LD_LIBRARY_PATH": str(libraries), "ASAN_OPTIONS": "detect_leaks=0", **environment}
        command = [build / "lat_run", kit, "--engine", engine, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "out of order" not in done.stderr, done.stderr
        return done

    return call


def test_an_engine_that_computes_the_same_passes(run: Run) -> None:
    done = run("")
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert "model.engine in TensorRT 1" in first
    assert first.endswith("on a played GPU")
    assert "passed: 1 comparisons in 1 cases; worst relative L2 0.0e+00" in done.stdout


def test_its_types_and_shapes_are_read(run: Run) -> None:
    assert run("half").returncode == 0
    done = run("longer")
    assert done.returncode == 1
    assert "shape (1, 5) instead of (1, 4)" in done.stdout


@pytest.mark.parametrize(("behaviour", "words"), [("wrong", "FAILED"), ("nan", "NaN or Inf")])
def test_an_engine_that_computes_something_else_fails(behaviour: str, words: str, run: Run) -> None:
    done = run(behaviour)
    assert done.returncode == 1
    assert words in done.stdout


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("wants position_ids", "the engine wants an input that the kit has not: position_ids"),
        ("int32", "input_ids: the engine takes int32, the golden has int64"),
        ("at-most 3", "input_ids of (1, 4) is not within the engine's profile"),
        ("unbounded", "logits: no upper bound of its size"),
        ("refuses", "TensorRT did not run it: a tactic failed"),
    ],
)
def test_a_case_that_does_not_run_fails_with_the_reason(behaviour: str, words: str, run: Run) -> None:
    done = run(behaviour)
    assert done.returncode == 1, done.stderr
    assert words in done.stdout
    assert "FAILED: 1 comparisons in 1 cases, 1 failed" in done.stdout


def test_a_fault_on_the_gpu_fails_with_its_name(run: Run) -> None:
    done = run("", PLAYED_CRASH="1")
    assert done.returncode == 1
    assert "the run: an error of CUDA" in done.stdout


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [("malformed", 2, "does not take the engine"), ("no-context", 3, "no execution context: out of memory")],
)
def test_an_engine_that_does_not_open_is_told(behaviour: str, code: int, words: str, run: Run) -> None:
    done = run(behaviour)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""


def test_plugins_are_loaded_before_the_engine(run: Run) -> None:
    without = run("needs-plugin")
    assert without.returncode == 2
    assert "could not find plugin BandedWindowAttention" in without.stderr
    done = run("needs-plugin", "--plugins", "./liblat_trt.so", "--plugins", "./other.so")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["warning: loaded ./liblat_trt.so", "warning: loaded ./other.so"]
    absent = run("needs-plugin", "--plugins", "absent.so")
    assert absent.returncode == 3
    assert "does not load the plugin library absent.so: cannot open absent.so" in absent.stderr


def test_without_tensorrt_or_a_gpu_it_is_exit_code_3(run: Run, tmp_path: Path) -> None:
    done = run("", libraries=tmp_path)
    assert done.returncode == 3
    assert "libnvinfer.so.1" in done.stderr
    assert "hint: LD_LIBRARY_PATH must name the folder" in done.stderr
    done = run("", PLAYED_GPUS="0")
    assert done.returncode == 3
    assert "no GPU that CUDA can use: no CUDA-capable device is detected" in done.stderr
