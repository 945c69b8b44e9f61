"""Prepares what a machine with a GPU needs for benchmarks/engines/run.py, in folders that are carried there.

    make gpu-engines-carry            or: python benchmarks/engines/carry.py --out build/gpu-engines

A TensorRT-RTX engine of every golden model, built here on the CPU, each in its bundle with its golden tensors; the
library with its Python bindings for that machine; Polygraphy. Cut into pieces that fit into one call each.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from pieces import cut

from lat_export.engine_options import EngineOptions, parse_capability
from lat_export.environment import provenance
from lat_export.errors import LatExportError
from lat_export.pipeline import export
from lat_export.targets.trt_options import known_capabilities
from lat_export.types import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "golden"
LIBRARY, META = "tensorrt_rtx", "tensorrt-rtx-cu13"
WHEELS = ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings", "polygraphy")
# Of manylinux wheels, newest first: pip takes each by its exact name.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "any")
# All that one call may carry, the tracked files of the checkout among it; the rest is for what git adds to them.
CALL_BYTES, MARGIN_BYTES = 64 * 2**20, 2 * 2**20


def golden_models() -> list[tuple[str, str]]:
    """Family and task of every golden model."""
    return sorted((path.parent.parent.name, path.parent.name) for path in GOLDEN.glob("*/*/golden.json"))


def capabilities(asked: str) -> tuple[str, ...]:
    """What engines are built for: the device's compute capability where the library knows it, else its own choice."""
    capability = parse_capability(asked)
    return (capability,) if capability in known_capabilities(LIBRARY) else ()


def make_bundles(models: list[tuple[str, str]], out: Path, asked: str) -> dict[str, Any]:
    """Export each model; what each build gave, by the bundle's name."""
    options = EngineOptions(compute_capabilities=capabilities(asked))
    made: dict[str, Any] = {}
    for family, task in models:
        name = f"{family}-{task}"
        spec = ModelSpec(str(GOLDEN / family / task / "checkpoint"), "trt-rtx", out / name, task=task, engine=options)
        try:
            bundle = export(spec).bundle
        except LatExportError as error:
            made[name] = {"built": False, "why": str(error)}
        else:
            made[name] = {"built": True, "validated": bundle.manifest["validated"]}
        print(f"{name}: {'built' if made[name]['built'] else made[name]['why']}", flush=True)
    return made


def put_packages(out: Path, python: str) -> None:
    """The library, its bindings for that Python, and Polygraphy, as a folder for PYTHONPATH."""
    with tempfile.TemporaryDirectory() as wheels:
        for name in WHEELS:
            download(name, python, Path(wheels))
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(out)
    # The package of the usual name is a source archive on PyPI: a few lines of Python, the same for every version.
    distribution = importlib.metadata.distribution(META)
    for part in distribution.files or ():
        source = Path(str(distribution.locate_file(part)))
        if source.suffix != ".pyc" and source.is_file():
            place = out / str(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)


def download(name: str, python: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*command, f"{name}=={importlib.metadata.version(name)}"], check=True)


def checkout_bytes() -> int:
    """What travels with every call."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-engines")
    parser.add_argument("--model", action="append", help="FAMILY/TASK; may be repeated; default all")
    parser.add_argument("--capability", default="9.0", help="of the GPU; default 9.0, an H200")
    parser.add_argument("--python", default="3.12", help="of that machine; default 3.12")
    parser.add_argument("--preset", type=int, default=6, help="of xz; default 6")
    arguments = parser.parse_args()
    models = [tuple(name.split("/")) for name in arguments.model or ()] or golden_models()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "bundles").mkdir()
        made = make_bundles(models, folder / "bundles", arguments.capability)  # type: ignore[arg-type]
        about = {
            "commit": provenance()["commit"],
            "library": f"{META} {importlib.metadata.version(META)}",
            "asked_for": arguments.capability,
            "built_for": list(capabilities(arguments.capability)) or "the library's own choice",
            "library_knows": known_capabilities(LIBRARY),
            "bundles": made,
        }
        (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")
        put_packages(folder / "site", arguments.python)
        print("packing ...", flush=True)
        folders = cut(folder, arguments.out, CALL_BYTES - MARGIN_BYTES - checkout_bytes(), arguments.preset)
    for index, place in enumerate(folders, start=1):
        size = sum(path.stat().st_size for path in place.iterdir())
        print(f"call {index} of {len(folders)} carries {place}: {size / 2**20:.1f} MiB")
    failed = [name for name, one in made.items() if not one["built"]]
    if failed:
        sys.exit(f"not built: {', '.join(failed)}")


if __name__ == "__main__":
    main()
