"""The native ops of this installation: where their libraries are, what is in them, and whether they fit.

They are looked for in the folder that LAT_EXPORT_PLUGINS names, else in `build/plugins` of the checkout, else in the
package, where a wheel that was built with them has them. Without them every `lat` node runs as its ONNX function body.
A library of another version of the C ABI than this package's is never called: it is as if it were missing.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lat_export.errors import MissingError

FOLDER_VARIABLE = "LAT_EXPORT_PLUGINS"
ORT_LIBRARY = "liblat_ort.so"
KERNELS_LIBRARY = "liblat_kernels.so"
CUDA_LIBRARY = "liblat_cuda.so"
TENSORRT_LIBRARY = "liblat_trt.so"
CONTENTS = "plugins.json"

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = PACKAGE.parents[1] / "plugins"
BUILD = PACKAGE.parents[1] / "build" / "plugins"
ADVICE = "lat-export plugins build, in a checkout with cmake, ninja and a C++17 compiler"
CUDA_ADVICE = "lat-export plugins build --arch native, in a checkout with cmake, ninja and nvcc 12.8 or later"
# LAT_ABI_VERSION of plugins/common/kernel_abi.h: what `abi.py` and the files of the ops lay out.
ABI_VERSION = 2


@dataclass(frozen=True)
class Plugins:
    """Built native ops.

    Attributes:
        kernels: names of the ops, in snake case, that have a CPU kernel.
        onnxruntime: those that onnxruntime can run; none where its headers were missing.
        archs: instruction sets that each kernel was compiled for.
        left_out: reason by what was not built.
        cuda: names of the ops that have CUDA kernels in it.
        cuda_archs: what those were compiled for: `sm_90` runs on that architecture, `compute_120` is PTX.
        tensorrt: those of which it has TensorRT plugins.
        tensorrt_major: of the TensorRT whose headers they were built with; "" without plugins.
        gpu_runs: by op, where its tests last passed on a GPU: "gpu", "date" and "commit".
        processor: that they were built for, as CMake names it; "" in contents of before.
    """

    folder: Path
    kernels: tuple[str, ...]
    onnxruntime: tuple[str, ...]
    archs: tuple[str, ...]
    compiler: str
    left_out: dict[str, str]
    cuda: tuple[str, ...] = ()
    cuda_archs: tuple[str, ...] = ()
    cuda_compiler: str = ""
    tensorrt: tuple[str, ...] = ()
    tensorrt_major: str = ""
    gpu_runs: dict[str, dict[str, str]] = field(default_factory=dict)
    processor: str = ""

    @property
    def arch(self) -> str:
        """The instruction set that the kernels take on this processor.

        Raises:
            MissingError: the library does not load, or speaks another version of the C ABI.
        """
        library = opened(self.folder / KERNELS_LIBRARY)
        library.lat_cpu_arch_name.restype = ctypes.c_char_p
        name: bytes = library.lat_cpu_arch_name()
        return name.decode()

    @property
    def unusable(self) -> MissingError | None:
        """Why these libraries cannot be used here, if they cannot."""
        for name in (KERNELS_LIBRARY, ORT_LIBRARY):
            if (self.folder / name).is_file() and (why := _why_unusable(self.folder / name)):
                return why
        return None


def opened(library: Path) -> ctypes.CDLL:
    """A library of native ops, after the handshake.

    Raises:
        MissingError: it does not load, or speaks another version of the C ABI than this package, or none at all.
    """
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise MissingError("the native ops do not load", got=error, hint=ADVICE) from error
    try:
        version = loaded.lat_abi_version
    except AttributeError:
        found = f"{library.name} without a version"
    else:
        version.restype = ctypes.c_int32
        if (number := version()) == ABI_VERSION:
            return loaded
        found = f"{library.name} of version {number}"
    raise MissingError(
        "the native ops were built for another version of lat-export",
        got=found,
        expected=f"version {ABI_VERSION} of the C ABI",
        hint=ADVICE,
    )


def _why_unusable(library: Path) -> MissingError | None:
    try:
        opened(library)
    except MissingError as error:
        return error
    return None


def folders() -> list[Path]:
    """Where to look, in this order; a folder that the environment names is the only one."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return [Path(named)]
    of_checkout = [BUILD] if (SOURCES / "CMakeLists.txt").is_file() else []
    return [*of_checkout, PACKAGE / "_native"]


def plugins() -> Plugins | None:
    """The native ops that are there, if any."""
    return next((found for folder in folders() if (found := plugins_in(folder))), None)


def plugins_in(folder: Path) -> Plugins | None:
    """Those of one folder, for whichever processor they were built."""
    if not (folder / KERNELS_LIBRARY).is_file() or not (folder / CONTENTS).is_file():
        return None
    contents = json.loads((folder / CONTENTS).read_text())
    known = {one.name for one in fields(Plugins)}
    return Plugins(folder.resolve(), **{name: _frozen(value) for name, value in contents.items() if name in known})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def ort_library() -> Path | None:
    """What `SessionOptions.register_custom_ops_library` takes, if it is there and of this package's version."""
    found = plugins()
    library = found.folder / ORT_LIBRARY if found else None
    return library if library and library.is_file() and not _why_unusable(library) else None


def ort_library_for(processor: str) -> Path | None:
    """The same for another processor, from the folder that `plugins build --platform` leaves beside this machine's."""
    for folder in (one.with_name(f"{one.name}-{processor}") for one in folders()):
        found = plugins_in(folder)
        if found and found.onnxruntime and found.processor == processor and (folder / ORT_LIBRARY).is_file():
            # A library of another processor cannot be asked for its version.
            version = json.loads((folder / CONTENTS).read_text()).get("abi")
            return found.folder / ORT_LIBRARY if version == ABI_VERSION else None
    return None


def why_not_used() -> MissingError | None:
    """Why libraries that are there are not used; None where all is well, and where there are none at all."""
    found = plugins()
    return found.unusable if found else None


def describe() -> str:
    """What a report says of the native ops of this machine, in a few words."""
    found = plugins()
    if found is None:
        return "missing: every lat node runs as its ONNX function body"
    if unusable := found.unusable:
        return f"not used, every lat node runs as its ONNX function body: {unusable.what}"
    return f"{len(found.onnxruntime)} in onnxruntime, {found.arch}, {found.compiler}"


def kernels_library() -> Path:
    """The plain C ABI of the ops.

    Raises:
        MissingError: the native ops are not built; it says where they were looked for.
    """
    found = plugins()
    if found is None:
        raise MissingError("the native ops are missing", got=_nothing_found(KERNELS_LIBRARY), hint=ADVICE)
    return found.folder / KERNELS_LIBRARY


def cuda_library() -> Path:
    """The plain C ABI of the CUDA kernels.

    Raises:
        MissingError: they are not built; with the reason where there is one.
    """
    return _optional_library(CUDA_LIBRARY, "the CUDA kernels are missing", lambda found: found.cuda)


def tensorrt_library() -> Path:
    """The TensorRT plugins.

    Raises:
        MissingError: they are not built; with the reason where there is one.
    """
    return _optional_library(TENSORRT_LIBRARY, "the TensorRT plugins are missing", lambda found: found.tensorrt)


def _optional_library(name: str, what: str, ops: Callable[[Plugins], tuple[str, ...]]) -> Path:
    """`ops`: those that the contents list for it; a file of which they list none is of an earlier build."""
    found = plugins()
    if found and ops(found) and (found.folder / name).is_file():
        return found.folder / name
    why = found.left_out.get(name.removesuffix(".so")) if found else None
    raise MissingError(what, got=why or _nothing_found(name), hint=CUDA_ADVICE)


def _nothing_found(library: str) -> str:
    return f"no {library} in {', '.join(map(str, folders()))}"


def demand_ort_library() -> Path:
    """
    Raises:
        MissingError: there is none that can be used; it says why.
    """
    library = ort_library()
    if library:
        return library
    if unusable := why_not_used():
        raise unusable
    found = plugins()
    why = found.left_out.get("liblat_ort") if found else None
    raise MissingError(
        "the native ops of ONNX Runtime are missing", got=why or _nothing_found(ORT_LIBRARY), hint=ADVICE
    )
