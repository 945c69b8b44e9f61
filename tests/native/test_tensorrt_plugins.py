"""TensorRT plugins without TensorRT and without a GPU.

TENSORRT_INCLUDE_DIR names the folder with TensorRT's headers, or several of them, separated as in PATH: everything is
checked with each. A host in C++ (tensorrt_host/) plays TensorRT; TensorRT-RTX's plugin registry, in a process of its
own, loads the library as TensorRT would. Both take `liblat_trt_recording.so`, in which test doubles stand for the CUDA
kernels, and `liblat_trt.so` where the native ops were built with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from lat_export import native
from lat_export.errors import MissingError
from lat_export.ops import OPS

HOST = ROOT / "tests" / "native" / "tensorrt_host"
REGISTRY = HOST / "registry.py"
LIBRARY = "liblat_trt.so"
RECORDING = "liblat_trt_recording.so"
HEADERS = [Path(folder) for folder in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if folder]
NO_HEADERS = (
    "no TensorRT headers: TENSORRT_INCLUDE_DIR names none. They are the folder include/ of TensorRT 10 or later: of "
    "its SDK, of a container with it, or of NVIDIA's public repository"
)
EXPORTED = {"getCreators", "setLoggerFinder"}
PLUGINS = sorted(op.name for op in OPS.values() if (ROOT / "plugins" / op.stem / "tensorrt_plugin.cpp").is_file())


def output_of(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_host(headers: Path | None, folder: Path, sanitize: str = "") -> Path:
    """The host and the recording library, compiled in `folder`."""
    if headers is None:
        pytest.skip(NO_HEADERS)
    if any(shutil.which(tool) is None for tool in native.TOOLS):
        pytest.skip(f"needs {', '.join(native.TOOLS)}")
    configure = ["cmake", "-S", HOST, "-B", folder, "-G", "Ninja", f"-DTENSORRT_INCLUDE_DIR={headers}"]
    done = subprocess.run([*configure, f"-DLAT_SANITIZE={sanitize}"], capture_output=True, text=True, check=False)
    if "cuda_include" in done.stderr:
        pytest.skip("no cuda_runtime_api.h, which TensorRT's headers include: CUDA_HOME names no CUDA toolkit")
    assert done.returncode == 0, done.stdout + done.stderr
    output_of("cmake", "--build", folder)
    return folder


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path | None], Path]:
    """The folder of a host that was compiled with these headers, once."""
    done: dict[Path | None, Path] = {}

    def get(headers: Path | None) -> Path:
        if headers not in done:
            done[headers] = build_host(headers, tmp_path_factory.mktemp("host"))
        return done[headers]

    return get


@pytest.fixture(scope="module")
def real_library() -> Path:
    try:
        return native.tensorrt_library()
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.got}")


@pytest.fixture(scope="module", params=[*(HEADERS or [None]), LIBRARY], ids=str)
def library(request: pytest.FixtureRequest, hosts: Callable[[Path | None], Path]) -> Path:
    """With recording kernels, by the headers that it was compiled with, and with the real ones."""
    if request.param == LIBRARY:
        built: Path = request.getfixturevalue("real_library")
        return built
    return hosts(request.param) / RECORDING


def asked_of_registry(library: Path) -> dict[str, object]:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs TensorRT-RTX's plugin registry: pip install tensorrt-rtx-cu13")
    found: dict[str, object] = json.loads(output_of(sys.executable, REGISTRY, library))
    return found


@pytest.fixture(scope="module")
def registry(library: Path) -> dict[str, object]:
    """What the plugin registry of TensorRT-RTX makes of the library."""
    return asked_of_registry(library)


@pytest.mark.parametrize("headers", HEADERS or [None], ids=str)
def test_host_drives_every_method_with_sanitizers(headers: Path | None, tmp_path: Path) -> None:
    folder = build_host(headers, tmp_path, "address,undefined")
    said = output_of(folder / "tensorrt_host", folder / RECORDING, "recording")
    for name in PLUGINS:
        assert f"lat::{name}: every step but the GPU's" in said


def test_host_drives_the_real_kernels(real_library: Path, hosts: Callable[[Path | None], Path]) -> None:
    """On a machine with a GPU their outputs are checked too; elsewhere the host says that it ran none."""
    for headers in HEADERS or [None]:
        done = subprocess.run(
            [hosts(headers) / "tensorrt_host", real_library, "kernels"], capture_output=True, text=True, check=False
        )
        if "was built with the headers of TensorRT" in done.stderr:
            continue  # a host of another kind, whose logger the library does not call
        assert done.returncode == 0, done.stdout + done.stderr
        assert "on the GPU: largest error" in done.stdout or "no GPU here: no plugin was run on one" in done.stdout
        return
    pytest.skip(f"{real_library} was built with other headers than those in TENSORRT_INCLUDE_DIR")


def test_two_names_are_exported(library: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    defined = output_of("nm", "-D", "--defined-only", library).splitlines()
    assert {line.split()[-1] for line in defined} == EXPORTED


def test_neither_tensorrt_nor_cuda_is_linked(library: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    needed = [line for line in output_of("readelf", "-d", library).splitlines() if "NEEDED" in line]
    assert needed
    assert [line for line in needed if any(name in line for name in ("nvinfer", "nvonnx", "cuda", "cudart"))] == []


def test_registry_lists_every_op(registry: dict[str, object]) -> None:
    assert registry["listed"] == [[name, "1", "lat"] for name in PLUGINS]
    assert registry["fields"] == {
        "BandedWindowAttention": [
            ["num_heads", "INT32"],
            ["window", "INT32"],
            ["scale", "FLOAT32"],
            ["allow_tf32", "INT32"],
        ],
        "BernoulliExpectation": [["num_heads", "INT32"], ["hash_code_len", "INT32"]],
        "FullAttention": [["num_heads", "INT32"]],
        "GlobalTokenAttention": [["num_heads", "INT32"], ["scale", "FLOAT32"]],
        "LshCumulation": [["num_heads", "INT32"], ["num_hash", "INT32"], ["hash_code_len", "INT32"]],
        "NystromAttention": [["num_heads", "INT32"], ["num_landmarks", "INT32"], ["per_head_init", "INT32"]],
    }


def test_registry_lists_what_a_node_carries(registry: dict[str, object]) -> None:
    """TensorRT's ONNX parser gives a creator the attributes that it lists: they are the contract's."""
    from lat_export.ops import OPS

    fields = registry["fields"]
    assert isinstance(fields, dict)
    for name, listed in fields.items():
        kinds = {attribute.name: "INT32" if attribute.kind is int else "FLOAT32" for attribute in OPS[name].attributes}
        assert dict(listed) == kinds


def test_registry_makes_plugins_from_fields(registry: dict[str, object]) -> None:
    assert registry["made"] == {
        "int32 and float32": True,
        "with TF32": True,
        "without TF32": True,
        "int64 and float64": True,
        "with the plugin's name": True,
    }
    assert registry["errors_of_made"] == []


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no fields", ("num_heads", "missing")),
        ("one is missing", ("scale", "missing")),
        ("one is unknown", ("dropout", "expected num_heads, window, scale, allow_tf32")),
        ("one is given twice", ("window", "twice")),
        ("wrong type", ("window", "1 x float32", "int32 or int64")),
        ("two numbers", ("window", "2 x int32")),
        ("out of range", ("window", "got 0", "1 to 2147483647")),
        ("no number", ("scale", "got nan")),
        ("neither 0 nor 1", ("allow_tf32", "got 2", "0 to 1")),
        ("below 0", ("allow_tf32", "got -1", "0 to 1")),
    ],
)
def test_registry_gets_no_plugin_but_a_logged_error(
    case: str, words: tuple[str, ...], registry: dict[str, object]
) -> None:
    refused = registry["refused"]
    assert isinstance(refused, dict)
    made, logged, on_stderr = refused[case]
    assert not made
    (error,) = logged + on_stderr
    for word in ("lat::BandedWindowAttention (layer 3)", *words):
        assert word in error


@pytest.mark.parametrize("headers", HEADERS or [None], ids=str)
def test_errors_go_to_the_logger_unless_it_is_of_another_kind(
    headers: Path | None, hosts: Callable[[Path | None], Path]
) -> None:
    """TensorRT-RTX has the logger of TensorRT 11: a library for TensorRT 10 must not call it."""
    found = asked_of_registry(hosts(headers) / RECORDING)
    assert headers is not None
    major = re.search(r"define TRT_MAJOR_ENTERPRISE (\d+)", (headers / "NvInferVersion.h").read_text())
    same_kind = major is not None and int(major[1]) >= 11
    refused, loading = found["refused"], found["stderr_of_loading"]
    assert isinstance(refused, dict)
    assert isinstance(loading, list)
    assert any("was built with the headers of TensorRT 10" in line for line in loading) != same_kind
    for made, logged, on_stderr in refused.values():
        assert not made
        assert (len(logged), len(on_stderr)) == ((1, 0) if same_kind else (0, 1))


def test_without_headers_or_kernels_the_reason_is_told(tmp_path: Path) -> None:
    if any(shutil.which(tool) is None for tool in native.TOOLS):
        pytest.skip(f"needs {', '.join(native.TOOLS)}")
    configure = ["cmake", "-S", ROOT / "plugins", "-B", tmp_path, "-G", "Ninja", "-DLAT_WITHOUT_ORT=ON"]
    absent = tmp_path / "absent"
    said = output_of(*configure, "-DLAT_CUDA_ARCHS=", f"-DTENSORRT_INCLUDE_DIR={absent}")
    contents = json.loads((tmp_path / "CMakeFiles" / native.CONTENTS).read_text())
    assert contents["tensorrt"] == []
    reason = contents["left_out"]["liblat_trt"]
    assert "-DLAT_CUDA_ARCHS" in reason
    assert f"no NvInferRuntime.h in TENSORRT_INCLUDE_DIR={absent}" in reason
    assert f"liblat_trt is left out: {reason}" in said
