"""The build of the native ops: what is in it, what is left out and why; no instruction set leaks into another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from native import c_abi

from lat_export import native
from lat_export.native.building import nvcc

SOURCES = ROOT / "plugins"


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lat_export", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def without_headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build on a machine that has no onnxruntime headers and gets none."""
    if any(shutil.which(tool) is None for tool in native.TOOLS):
        pytest.skip(f"needs {', '.join(native.TOOLS)}")
    folder = tmp_path_factory.mktemp("build")
    configure = ["cmake", "-S", str(SOURCES), "-B", str(folder), "-G", "Ninja", "-DLAT_FETCH_HEADERS=OFF"]
    absent = f"-DONNXRUNTIME_INCLUDE_DIR={folder / 'absent'}"
    subprocess.run([*configure, absent], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(folder), "--target", "lat_contents"], check=True, capture_output=True)
    return folder


def test_without_headers_the_kernels_are_built_and_the_reason_is_told(without_headers: Path) -> None:
    contents = json.loads((without_headers / native.CONTENTS).read_text())
    assert contents["onnxruntime"] == []
    assert "no onnxruntime_cxx_api.h in ONNXRUNTIME_INCLUDE_DIR" in contents["left_out"]["liblat_ort"]
    environment = {native.FOLDER_VARIABLE: str(without_headers)}
    listed = command("plugins", "list", **environment)
    assert "ONNX body, PyTorch (CPU)" in listed.stdout
    assert "left out: liblat_ort: no onnxruntime_cxx_api.h" in listed.stdout
    path = command("plugins", "path", **environment)
    assert path.returncode == 3
    assert "native ops of ONNX Runtime are missing" in path.stderr


def exported_names(library: Path) -> set[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    listed = subprocess.run([nm, "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}


def test_only_the_abi_is_exported(without_headers: Path, ort_library: Path) -> None:
    names = exported_names(without_headers / native.KERNELS_LIBRARY)
    assert {name for name in names if not name.startswith("lat_")} == set()
    names = exported_names(ort_library)
    assert {name for name in names if not name.startswith("lat_")} == {"RegisterCustomOps"}


def test_code_of_an_instruction_set_stays_in_its_namespace(without_headers: Path) -> None:
    """A symbol that objects of two instruction sets define is one for the linker: the wrong one on an older machine."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    owners: dict[str, set[str]] = {}
    for path in without_headers.glob("CMakeFiles/lat_cpu_*.dir/*/*.o"):
        arch = re.sub(r"lat_cpu_(.*)\.dir", r"\1", path.parts[-3])
        listed = subprocess.run(
            [nm, "--defined-only", "--extern-only", path], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            name = line.split()[-1]
            if not name.startswith("DW.ref."):  # the address of the exception handler: data, the same in all
                owners.setdefault(name, set()).add(arch)
    assert owners
    assert {name: archs for name, archs in owners.items() if len(archs) > 1} == {}


def test_the_kernels_compile_for_aarch64(tmp_path: Path) -> None:
    """With little optimisation, to save time; `make sanitize` compiles as for use, and runs them."""
    lacking = [tool for tool in ("cmake", "ninja", "aarch64-linux-gnu-g++") if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)}: apt install cmake ninja-build g++-aarch64-linux-gnu")
    configure = ["cmake", "-S", str(SOURCES), "-B", str(tmp_path), "-G", "Ninja", "--toolchain", "cmake/aarch64.cmake"]
    options = ["-DLAT_WITHOUT_ORT=ON", "-DCMAKE_CXX_FLAGS_RELEASE=-O1"]
    subprocess.run([*configure, *options], check=True, capture_output=True)
    built = subprocess.run(
        ["cmake", "--build", str(tmp_path), "--target", "lat_contents"], check=False, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout[-4000:]
    assert json.loads((tmp_path / native.CONTENTS).read_text())["archs"] == ["neon"]
    elf_machine = (tmp_path / native.KERNELS_LIBRARY).read_bytes()[18:20]
    assert int.from_bytes(elf_machine, "little") == 183, "not an aarch64 library"


def test_cuda_kernels_compile_and_link_for_aarch64(tmp_path: Path) -> None:
    """One op, for Jetson Orin; all of them take minutes."""
    compiler = "aarch64-linux-gnu-g++"
    lacking = [tool for tool in ("cmake", "ninja", compiler) if shutil.which(tool) is None]
    if lacking or nvcc() is None:
        pytest.skip(f"no {', '.join(lacking) or 'nvcc'}")
    configure = ["cmake", "-S", str(SOURCES), "-B", str(tmp_path), "-G", "Ninja", "--toolchain", "cmake/aarch64.cmake"]
    options = ["-DLAT_WITHOUT_ORT=ON", "-DLAT_CUDA_ARCHS=87-real", f"-DCMAKE_CUDA_COMPILER={nvcc()}"]
    environment = {**os.environ, "LAT_PYTHON": sys.executable}
    done = subprocess.run([*configure, *options], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    if "fetching it failed" in done.stderr:
        pytest.skip(next(line.strip() for line in done.stderr.splitlines() if "fetching it failed" in line))
    kernels = "CMakeFiles/lat_cuda_kernels.dir"
    objects = [f"{kernels}/banded_window_attention/kernel_cuda.cu.o", f"{kernels}/common/cuda_entry.cpp.o"]
    common = "CMakeFiles/lat_common.dir/common/arguments.cpp.o"
    done = subprocess.run(["ninja", *objects, common], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    runtime = "cuda_runtime/nvidia/cu13/lib/libcudart_static.a"
    link = [
        compiler,
        "-shared",
        "-Wl,-z,defs",
        "-o",
        "banded.so",
        *objects,
        common,
        runtime,
        "-lrt",
        "-lpthread",
        "-ldl",
    ]
    done = subprocess.run(link, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    library = (tmp_path / "banded.so").read_bytes()
    assert int.from_bytes(library[18:20], "little") == 183, "not an aarch64 library"
    assert b"mma_attention" in library


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--platform", "riscv"), "no such platform to build for"),
        (("--platform", "aarch64", "--arch", "native"), "no GPU to be native to"),
        (("--cuda-target", "."), "--cuda-target without --platform"),
        (("--platform", "aarch64", "--cuda-target", "."), "no CUDA runtime to link"),
    ],
)
def test_builds_for_another_processor_that_cannot_be(words: tuple[str, ...], said: str) -> None:
    done = command("plugins", "build", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_the_contents_are_those_of_the_libraries(plugins: native.Plugins) -> None:
    """Every op that plugins.json names has its entry, and there is none that it does not name."""
    for library in (native.KERNELS_LIBRARY, native.ORT_LIBRARY):
        if not (plugins.folder / library).is_file():
            assert plugins.onnxruntime == ()
            continue
        names = exported_names(plugins.folder / library)
        assert {name for name in names if name.endswith("_cpu")} == {f"lat_{op}_cpu" for op in plugins.kernels}
    assert json.loads((plugins.folder / native.CONTENTS).read_text())["abi"] == c_abi.ABI_VERSION
    assert set(plugins.kernels) == {path.parent.name for path in SOURCES.glob("*/kernel_cpu.cpp")}


def test_without_a_build_all_is_told(tmp_path: Path) -> None:
    environment = {native.FOLDER_VARIABLE: str(tmp_path)}
    listed = command("plugins", "list", **environment)
    assert listed.returncode == 0
    assert "no native ops here" in listed.stdout
    path = command("plugins", "path", **environment)
    assert (path.returncode, path.stdout) == (3, "")
    assert "lat-export plugins build" in path.stderr
    doctor = command("doctor", "--json", **environment)
    (finding,) = [found for found in json.loads(doctor.stdout) if found["part"] == "native ops"]
    assert finding["state"] == "missing"


def test_a_library_that_does_not_load_is_told(tmp_path: Path) -> None:
    for name in (native.KERNELS_LIBRARY, native.ORT_LIBRARY):
        (tmp_path / name).write_bytes(b"no library")
    contents = {"kernels": [], "onnxruntime": [], "archs": [], "compiler": "", "left_out": {}}
    (tmp_path / native.CONTENTS).write_text(json.dumps(contents))
    doctor = command("doctor", **{native.FOLDER_VARIABLE: str(tmp_path)})
    assert doctor.returncode == 0
    assert "the native ops do not load" in doctor.stdout


def test_what_is_there_for_gpus_is_listed(plugins: native.Plugins, tmp_path: Path) -> None:
    for name in (native.KERNELS_LIBRARY, native.ORT_LIBRARY):
        if (plugins.folder / name).is_file():
            (tmp_path / name).symlink_to(plugins.folder / name)
    for name in (native.CUDA_LIBRARY, native.TENSORRT_LIBRARY):
        (tmp_path / name).write_bytes(b"")  # listing opens neither
    contents = json.loads((plugins.folder / native.CONTENTS).read_text())
    ops = ["banded_window_attention", "global_token_attention"]
    contents |= {"cuda": ops, "cuda_archs": ["sm_90", "compute_120"], "cuda_compiler": "NVIDIA 13.0.1", "left_out": {}}
    contents |= {"tensorrt": ops[:1], "tensorrt_major": "11"}
    contents["gpu_runs"] = {ops[1]: {"gpu": "NVIDIA H200", "date": "2026-12-01", "commit": "0123456789", "tests": "7"}}
    (tmp_path / native.CONTENTS).write_text(json.dumps(contents))
    environment = {native.FOLDER_VARIABLE: str(tmp_path)}
    listed = command("plugins", "list", **environment).stdout
    lines = {line.split()[0]: " ".join(line.split()) for line in listed.splitlines() if line}
    banded, other = lines["BandedWindowAttention"], lines["GlobalTokenAttention"]
    assert "PyTorch (CPU, CUDA), TensorRT plugin num_heads, window, scale, allow_tf32 never run" in banded
    assert "PyTorch (CPU, CUDA) num_heads, scale NVIDIA H200, 2026-12-01, commit 0123456" in other
    assert lines["NystromAttention"].endswith("PyTorch (CPU) num_heads, num_landmarks, per_head_init -")
    assert "CUDA: sm_90, compute_120; NVIDIA 13.0.1" in listed
    assert "TensorRT plugins: for TensorRT 11" in listed
    found = {row["part"]: row["state"] for row in json.loads(command("doctor", "--json", **environment).stdout)}
    assert found["CUDA kernels"] == "2 of 6 ops, sm_90, compute_120"
    assert found["TensorRT plugins"] == "1 of 6 ops, for TensorRT 11"
    for library, file in (("cuda", native.CUDA_LIBRARY), ("trt", native.TENSORRT_LIBRARY)):
        assert command("plugins", "path", library, **environment).stdout.strip() == str(tmp_path / file)


def test_without_tools_nothing_is_built(tmp_path: Path) -> None:
    done = command("plugins", "build", PATH=str(tmp_path))
    assert done.returncode == 3
    assert "no cmake, ninja, c++" in done.stderr


def test_path_and_list_of_a_build(ort_library: Path) -> None:
    assert command("plugins", "path").stdout.strip() == str(ort_library)
    listed = json.loads(command("plugins", "list", "--json").stdout)
    assert {"banded_window_attention", "global_token_attention"} <= set(listed["onnxruntime"])


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in SOURCES.glob("*/kernel_cpu.cpp")))
def test_a_folder_of_an_op_has_all_its_parts(folder: str) -> None:
    for part in ("kernel.h", "kernel_cpu.cpp", "kernel_test.cpp", "contract.h", "onnxruntime_op.cpp", "README.md"):
        assert (SOURCES / folder / part).is_file(), f"{folder} lacks {part}"
