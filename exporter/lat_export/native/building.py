"""How a checkout builds its native ops."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from lat_export.environment import gpu_count
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.native.library import ADVICE, BUILD, SOURCES, Plugins, folders, plugins, plugins_in

TOOLS = ("cmake", "ninja", "c++")
# Processors to build for on this machine, each with its C++ compiler: plugins/cmake/PLATFORM.cmake.
PLATFORMS = {"aarch64": "aarch64-linux-gnu-g++"}
# As CMake names CUDA architectures; the kernels take instructions of sm_80.
ARCH = re.compile(r"[1-9]\d{1,2}[af]?(-real|-virtual)?")
LEAST_ARCH = 80


def build(
    tell: Callable[[str], None],
    arch: str | None = None,
    tensorrt_include: Path | None = None,
    platform: str | None = None,
    cuda_target: Path | None = None,
) -> Plugins:
    """Compile the checkout's `plugins/` into its `build/plugins`.

    Args:
        arch: of the CUDA kernels: `native` for this machine's GPU, `all`, `none`, or numbers with commas between, as
            "80,90". None leaves it as it was for the last build: none, at first.
        tensorrt_include: folder of TensorRT's headers, for its plugins. None leaves it as it was; at first the
            environment's TENSORRT_INCLUDE_DIR and the system's own are looked at.
        platform: one of PLATFORMS, to build for another processor, into `build/plugins-PLATFORM`. This machine never
            uses what is built there.
        cuda_target: CUDA's runtime for that processor, a folder with lib/libcudart_static.a. None leaves it as it was;
            at first PyPI's wheel nvidia-cuda-runtime of nvcc's release is fetched.
    Raises:
        InputError: no such `arch` or `platform`, no headers in `tensorrt_include`, or no runtime in `cuda_target`.
        MissingError: no sources, or no tool to build them with; for CUDA no nvcc, or no GPU to be `native` to.
        LatExportError: the build failed; with the end of its output.
    """
    if not (SOURCES / "CMakeLists.txt").is_file():
        raise MissingError("no sources of the native ops: this is not a checkout", got=SOURCES, hint=ADVICE)
    if platform is not None:
        _check_platform(platform, arch)
    options = _options(arch, tensorrt_include, platform, cuda_target)
    folder = BUILD if platform is None else BUILD.with_name(f"{BUILD.name}-{platform}")
    run_step(["cmake", "-S", str(SOURCES), "-B", str(folder), "-G", "Ninja", *options], "configure", tell)
    # The tests of the kernels are for this processor.
    run_step(["cmake", "--build", str(folder), *(("--target", "lat_contents") if platform else ())], "compile", tell)
    built = plugins_in(folder) if platform else plugins()
    if built is None:
        raise MissingError("the native ops were built elsewhere", got=folder, expected=folders()[0], hint=ADVICE)
    return built


def _options(
    arch: str | None, tensorrt_include: Path | None, platform: str | None, cuda_target: Path | None
) -> list[str]:
    """CMake's, of `build`'s arguments, after a look at what they need."""
    # A newer compiler's new warning is no reason to have no native ops; the checks in `make sanitize` are stricter.
    options = ["--compile-no-warning-as-error"]
    if cuda_target is not None:
        options.append(_cuda_target(cuda_target, platform))
    options += toolchain(platform, "the native ops cannot be built")
    if arch is not None:
        options += for_cuda(arch)
    if tensorrt_include is not None:
        if not (tensorrt_include / "NvInferRuntime.h").is_file():
            raise InputError("no headers of TensorRT", got=tensorrt_include, expected="a folder with NvInferRuntime.h")
        options.append(f"-DTENSORRT_INCLUDE_DIR={tensorrt_include.resolve()}")
    return options


def toolchain(platform: str | None, what: str) -> list[str]:
    """CMake's options for the compiler of a processor, after a look for the tools.

    Args:
        what: the first sentence of the error.
    Raises:
        MissingError: a tool is not here.
    """
    compiler = PLATFORMS[platform] if platform else "c++"
    lacking = [tool for tool in (*TOOLS[:-1], compiler) if shutil.which(tool) is None]
    if lacking:
        raise MissingError(
            what, got=f"no {', '.join(lacking)}", hint=f"apt install cmake ninja-build {_package_of(compiler)}"
        )
    return [] if platform is None else [f"-DCMAKE_TOOLCHAIN_FILE={SOURCES / 'cmake' / platform}.cmake"]


def _package_of(compiler: str) -> str:
    """Debian's: g++-aarch64-linux-gnu has aarch64-linux-gnu-g++."""
    return "g++" if compiler == "c++" else f"g++-{compiler.removesuffix('-g++')}"


def _check_platform(platform: str, arch: str | None) -> None:
    if platform not in PLATFORMS:
        raise InputError("no such platform to build for", got=platform, expected=", ".join(PLATFORMS))
    if arch == "native":
        raise InputError(
            "a build for another processor has no GPU to be native to",
            got=f"--platform {platform} --arch native",
            expected="numbers with commas between",
            hint="87 is Jetson Orin",
        )


def _cuda_target(folder: Path, platform: str | None) -> str:
    if platform is None:
        raise InputError(
            "CUDA's runtime for another processor has no place in a build for this one",
            got="--cuda-target without --platform",
            expected=f"--platform {'|'.join(PLATFORMS)}",
        )
    if not (folder / "lib" / "libcudart_static.a").is_file():
        raise InputError(
            "no CUDA runtime to link",
            got=folder,
            expected="a folder with lib/libcudart_static.a",
            hint=f"targets/{platform}-linux of a CUDA toolkit, or nvidia/cu13 of PyPI's nvidia-cuda-runtime",
        )
    return f"-DLAT_CUDA_TARGET={folder.resolve()}"


def nvcc() -> str | None:
    """CUDA's compiler: what CUDACXX names, else the one on the PATH, in CUDA_HOME or in /usr/local/cuda."""
    named = os.environ.get("CUDACXX")
    if named:
        return shutil.which(named)
    homes = (os.environ.get("CUDA_HOME"), "/usr/local/cuda")
    places = (None, *(str(Path(home) / "bin") for home in homes if home))
    return next((found for place in places if (found := shutil.which("nvcc", path=place))), None)


def for_cuda(arch: str) -> list[str]:
    """CMake's options for the CUDA kernels, of `build`'s `arch`.

    Raises:
        InputError, MissingError: as `build`.
    """
    if arch == "none":
        return ["-DLAT_CUDA_ARCHS="]
    names = arch.split(",")
    if arch not in ("native", "all"):
        for name in names:
            if not ARCH.fullmatch(name) or int(re.sub(r"\D", "", name)) < LEAST_ARCH:
                raise InputError(
                    "no such architecture for the CUDA kernels",
                    got=name,
                    expected=f"native, all, none, or numbers from {LEAST_ARCH} on with commas between",
                    hint="80,90 are A100 and H100; nvidia-smi --query-gpu=compute_cap --format=csv prints a GPU's",
                )
    compiler = nvcc()
    if compiler is None:
        raise MissingError(
            "the CUDA kernels cannot be built",
            got="no nvcc on the PATH, in CUDA_HOME or in /usr/local/cuda",
            hint="install the CUDA toolkit, 12.8 or later; CUDACXX names an nvcc that lies elsewhere",
        )
    if arch == "native" and gpu_count() == 0:
        raise MissingError(
            "no architecture to build the CUDA kernels for",
            got="native, and no NVIDIA GPU on this machine",
            hint="name it: --arch 90 for an H100 or H200, --arch 80,86,89 for several, --arch all",
        )
    return [f"-DLAT_CUDA_ARCHS={';'.join(names)}", f"-DCMAKE_CUDA_COMPILER={compiler}"]


def run_step(
    command: list[str], step: str, tell: Callable[[str], None], what: str = "the native ops", name: str = "plugins"
) -> None:
    """
    Raises:
        LatExportError: it failed; with the end of its output.
    """
    tell(f"{name}: {step}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        verb = "do" if what.endswith("s") else "does"
        raise LatExportError(
            f"{what} {verb} not {step}", got="\n".join(lines[-30:]), where={"command": " ".join(command)}
        )
