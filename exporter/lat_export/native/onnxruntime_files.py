"""onnxruntime's shared library, with its licence: out of this installation, or of PyPI's wheel for another processor.

The wheels hold `libonnxruntime.so.VERSION`, which has the whole C API (`OrtGetApiBase`) and knows nothing of Python.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lat_export.errors import InputError, MissingError
from lat_export.native.library import BUILD

LIBRARY = "libonnxruntime.so"
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")
# What onnxruntime's wheels were and are called, newest last.
TAGS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")


@dataclass(frozen=True)
class OnnxruntimeFiles:
    library: Path
    licences: tuple[Path, ...]
    version: str


def onnxruntime_files(processor: str) -> OnnxruntimeFiles:
    """Of the release that is installed here, for a processor as CMake names it.

    Raises:
        MissingError: this installation's library is of another form, or the wheel cannot be fetched.
    """
    import onnxruntime

    version: str = onnxruntime.__version__
    if processor == platform.machine():
        package = Path(onnxruntime.__file__).parent
        return _found(package / "capi", package, version)
    folder = BUILD.with_name(f"onnxruntime-{version}-{processor}")
    if not folder.is_dir():
        _fetch(folder, version, processor)
    return _found(folder, folder, version)


def named_onnxruntime_files(folder: Path) -> OnnxruntimeFiles:
    """Of an unpacked release of onnxruntime's own: `lib/libonnxruntime.so*`, or that in the folder itself.

    Raises:
        InputError: there is none.
    """
    place = folder / "lib" if (folder / "lib").is_dir() else folder
    try:
        return _found(place, folder, "")
    except MissingError as error:
        raise InputError(
            "no library of onnxruntime", got=folder, expected=f"{LIBRARY}* in it, or in its lib/"
        ) from error


def _found(place: Path, licences: Path, version: str) -> OnnxruntimeFiles:
    libraries = sorted(path for path in place.glob(f"{LIBRARY}*") if path.is_file())
    if not libraries:
        raise MissingError(
            "this installation of onnxruntime has no library of its own",
            got=f"no {LIBRARY}* in {place}",
            hint="pip install onnxruntime, or name an unpacked release of onnxruntime: --onnxruntime DIR",
        )
    there = tuple(licences / name for name in LICENCES if (licences / name).is_file())
    return OnnxruntimeFiles(libraries[-1].resolve(), there, version or _version_of(libraries[-1]))


def _version_of(library: Path) -> str:
    return library.resolve().name.removeprefix(LIBRARY).removeprefix(".")


def _fetch(folder: Path, version: str, processor: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        platforms = [word for tag in TAGS for word in ("--platform", f"{tag}_{processor}")]
        wanted = ["--no-deps", "--only-binary=:all:", *platforms, "--dest", scratch, f"onnxruntime=={version}"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", *wanted], capture_output=True, text=True, check=False
        )
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            said = done.stderr.strip().splitlines() or ["pip left no wheel"]
            raise MissingError(
                f"onnxruntime {version} for {processor} cannot be fetched",
                got=next((line for line in said if "ERROR" in line), said[-1]),
                hint="name an unpacked release of onnxruntime for that processor: --onnxruntime DIR",
            )
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in wheel.namelist():
                name = Path(member).name
                if name.startswith(f"{LIBRARY}.") or member in {f"onnxruntime/{licence}" for licence in LICENCES}:
                    with wheel.open(member) as source, (unpacked / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        unpacked.rename(folder)
