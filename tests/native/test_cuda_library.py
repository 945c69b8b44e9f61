"""liblat_cuda.so without a GPU: every architecture compiles, nothing spills, and it exports and needs what it must."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from native import cuda_abi
from native.c_abi import banded_arguments
from native.cuda_checks import cast
from native.longformer_cuda_checks import banded_attributes, banded_inputs

from lat_export import native
from lat_export.environment import gpu_count
from lat_export.native.building import nvcc

ARCHS = {"sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120"}
COMPILED_HERE = "90-real"
RESULT = ROOT / "benchmarks" / "results" / "cuda_resources.json"
LEAST_SHARED = 48 * 1024  # static memory beyond this does not compile; more is asked for at launch


@pytest.fixture(scope="module")
def resources() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import cuda_resources

    yield cuda_resources
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def built(resources: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    lacking = [tool for tool in native.TOOLS if shutil.which(tool) is None]
    if lacking or nvcc() is None:
        pytest.skip(f"no {', '.join(lacking) or 'nvcc'}: the CUDA kernels are not compiled")
    try:
        library, kernels = resources.build(COMPILED_HERE, tmp_path_factory.mktemp("cuda"))
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.stdout[-4000:]}\n{error.stderr[-4000:]}")
    return library, kernels


def test_every_architecture_was_compiled_from_these_sources_and_none_spills(resources: Any) -> None:
    """All seven take five minutes: what the command wrote is of the sources as they are, or it has to be run again."""
    written = json.loads(RESULT.read_text())
    assert written["sources_sha256"] == resources.sources_sha256(), f"run: python {resources.__file__} --out {RESULT}"
    assert {arch for registers in written["registers"].values() for arch in registers} == ARCHS
    assert {name: set(by_arch) for name, by_arch in written["registers"].items() if set(by_arch) != ARCHS} == {}
    assert written["spills"] == []
    assert written["most_static_shared_bytes"] <= LEAST_SHARED


def test_one_architecture_compiles_as_was_written(resources: Any, built: tuple[Path, list[Any]]) -> None:
    found = resources.registers_of(built[1])
    written = json.loads(RESULT.read_text())
    assert set(found) == set(written["registers"])
    assert [kernel for kernel in built[1] if kernel.spills] == []
    assert max(kernel.shared_bytes for kernel in built[1]) <= LEAST_SHARED
    if resources.nvcc_release() == written["nvcc"]:
        assert {name: by["sm_90"] for name, by in found.items()} == {
            name: by["sm_90"] for name, by in written["registers"].items()
        }


def test_every_op_is_tested_on_a_gpu_and_says_so() -> None:
    """What `plugins list` says of runs on a GPU comes from these names (tests/gpu/runs.py)."""
    modules = [import_module(f"gpu.{file.stem}") for file in (ROOT / "tests/gpu").glob("test_*_cuda.py")]
    tested = [op for module in modules for op in module.OPS]
    assert sorted(tested) == sorted(file.parent.name for file in (ROOT / "plugins").glob("*/kernel_cuda.cu"))


def test_spills_are_seen(resources: Any) -> None:
    log = """ptxas info    : Compiling entry function '_ZN3lat4kernEv' for 'sm_90'
ptxas info    : Function properties for _ZN3lat4kernEv
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 4096 bytes smem, 400 bytes cmem[0]
"""
    (kernel,) = resources.kernels(log)
    assert (kernel.arch, kernel.registers, kernel.spill_load_bytes, kernel.shared_bytes) == ("sm_90", 255, 12, 4096)
    assert kernel.spills


def test_only_the_abi_is_exported(built: tuple[Path, list[Any]]) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    listed = subprocess.run([nm, "-D", "--defined-only", built[0]], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in listed.splitlines()}
    ops = {path.parent.name for path in (ROOT / "plugins").glob("*/kernel_cuda.cu")}
    entries = {f"lat_{op}_cuda{part}" for op in ops for part in ("", "_workspace")}
    assert names == entries | {"lat_abi_version"}


def test_it_needs_the_systems_libraries_alone(built: tuple[Path, list[Any]]) -> None:
    """The CUDA runtime is inside: no version of it has to be installed."""
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("needs readelf")
    listed = subprocess.run([readelf, "-d", built[0]], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.+?)\]", listed))
    assert {name.partition(".so")[0] for name in needed} <= {
        "libc", "libm", "libstdc++", "libgcc_s", "libdl", "librt", "libpthread", "ld-linux-x86-64",
    }  # fmt: skip


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU: the kernel runs")
def test_without_a_gpu_a_call_says_so(built: tuple[Path, list[Any]]) -> None:
    device = cuda_abi.Device.load(built[0], "cpu")
    tensors = cast(banded_inputs("plain", 20, 2, 16), torch.float16)
    arguments = banded_arguments(tensors, torch.empty_like(tensors[0]), banded_attributes(2, 5))
    workspace = cuda_abi.Guarded("cpu", device.workspace_bytes(arguments))
    code, message = device.enqueue(arguments, workspace.data.data_ptr())
    assert code == cuda_abi.DEVICE_ERROR
    assert message.startswith("CUDA, the current device: ")


@pytest.mark.parametrize(
    ("arch", "got"),
    [("75", "75"), ("90,h200", "h200"), ("90;80", "90;80"), ("", ""), ("90,", ""), ("native,80", "native")],
)
def test_no_such_architecture(arch: str, got: str) -> None:
    done = build_command("--arch", arch)
    assert done.returncode == 2
    assert "no such architecture for the CUDA kernels" in done.stderr
    assert f"got: {got}".strip() in done.stderr


def test_without_nvcc_nothing_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", str(tmp_path / "nvcc"))
    done = build_command("--arch", "90")
    assert done.returncode == 3
    assert "no nvcc" in done.stderr


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
def test_native_needs_a_gpu() -> None:
    if nvcc() is None:
        pytest.skip("no nvcc")
    done = build_command("--arch", "native")
    assert done.returncode == 3
    assert "no NVIDIA GPU on this machine" in done.stderr
    assert "--arch 90" in done.stderr


def test_headers_of_tensorrt_are_looked_for_where_they_are_named(tmp_path: Path) -> None:
    done = build_command("--tensorrt-include", str(tmp_path))
    assert done.returncode == 2
    assert "a folder with NvInferRuntime.h" in done.stderr


def build_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lat_export", "plugins", "build", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)
