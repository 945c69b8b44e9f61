"""Records the Python API of TensorRT from the wheels that hold its real bindings.

    pip download --no-deps --python-version 3.11 --only-binary=:all: tensorrt_cu13_bindings==11.4.0.106
    python tests/tensorrt_api/record.py WHEEL... [--rtx]

The wheels are of Python's own version. They want TensorRT's libraries, which no registry has: their place is taken by
empty ones with the few symbols that the bindings ask for, so they import, and every class, method, signature and
enumeration can be read. None of it can be called. `--rtx` reads the installed tensorrt_rtx too.

Writes surface.json beside this file, and from it tests/stubs/tensorrt/__init__.pyi, which mypy reads.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SURFACE, STUB = HERE / "surface.json", HERE.parent / "stubs" / "tensorrt" / "__init__.pyi"
# What lat_export may have to do with.
CLASSES = (
    "Builder", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILayer",
    "ILogger", "INetworkDefinition", "IOptimizationProfile", "IPluginRegistry", "IRuntimeCache", "IRuntimeConfig",
    "ISerializationConfig",
    "ITensor", "ITimingCache", "OnnxParser", "OnnxParserRefitter", "ParserError", "Refitter", "Runtime",
)  # fmt: skip
ENUMS = (
    "BuilderFlag", "ComputeCapability", "DataType", "DynamicShapesKernelSpecializationStrategy",
    "EngineInvalidityDiagnostics", "HardwareCompatibilityLevel", "LayerInformationFormat", "LayerType",
    "MemoryPoolType", "NetworkDefinitionCreationFlag", "ProfilingVerbosity", "SerializationFlag", "TensorIOMode",
)  # fmt: skip
# Symbols of TensorRT's own libraries: all others are of Python and of C++.
SYMBOL = re.compile(r"(create\w+_INTERNAL|get\w*PluginRegistry|getNvOnnxParserVersion|initLibNvInferPlugins)$")
READ = """
import importlib, json, re, sys
module = importlib.import_module(sys.argv[1])
ADDED = ("add_optimization_profile",)
classes, enums = json.loads(sys.argv[2])
def line(member):
    text = (member.fget if isinstance(member, property) else member).__doc__ or ""
    lines = [part.strip() for part in text.strip().splitlines()]
    overloads = [part.partition(" ")[2] for part in lines if re.match(r"\\d+\\. ", part)]
    kind = "property " if isinstance(member, property) else ""
    found = overloads if lines[1:2] == ["Overloaded function."] else lines[:1]
    return [kind + re.sub(r"tensorrt\\w*\\.tensorrt\\w*\\.", "", part) for part in found]
def members(kind):
    for name in sorted(dir(kind)):
        if (name == "__init__" or not name.startswith("_")) and not name.startswith("add_") or name in ADDED:
            yield name, line(getattr(kind, name))
found = {
    "classes": {name: dict(members(getattr(module, name))) for name in classes if hasattr(module, name)},
    "enums": {name: sorted(getattr(module, name).__members__) for name in enums if hasattr(module, name)},
}
print(json.dumps({module.__version__: found}))
"""


def recorded(module: str, **environment: str) -> dict[str, Any]:
    """By version, classes with their methods' signatures, and enumerations with their members."""
    command = [sys.executable, "-W", "ignore", "-c", READ, module, json.dumps([CLASSES, ENUMS])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of_wheel(wheel: Path, folder: Path) -> dict[str, Any]:
    zipfile.ZipFile(wheel).extractall(folder)
    libraries = folder / "lib"
    empty_libraries(folder / "tensorrt_bindings" / "tensorrt.so", libraries)
    return recorded("tensorrt_bindings", PYTHONPATH=str(folder), LD_LIBRARY_PATH=str(libraries))


def empty_libraries(bindings: Path, folder: Path) -> None:
    """What the bindings link to, with every symbol that they want from it, and nothing behind it."""
    folder.mkdir()

    def read(*command: str | Path) -> str:
        return subprocess.run([*command, bindings], capture_output=True, text=True, check=True).stdout

    wanted = [name for name in read("nm", "-D", "--undefined-only").split() if SYMBOL.match(name)]
    code = "\n".join(f"void* {name}(void) {{ return 0; }}" for name in wanted)
    for name in re.findall(r"\[(libnv[^\]]+)\]", read("readelf", "-d")):
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / name]
        subprocess.run(command, input=code, text=True, check=True)
        code = ""


def merged(found: dict[str, Any]) -> dict[str, Any]:
    """Of several versions, every signature once, with the versions that have it."""
    parts: dict[str, Any] = {"versions": list(found), "classes": {}, "enums": {}}
    for version, surface in found.items():
        for owner, members in surface["classes"].items():
            for member, signatures in members.items():
                known = parts["classes"].setdefault(owner, {}).setdefault(member, {})
                known.setdefault("; ".join(signatures), []).append(version)
        for owner, members in surface["enums"].items():
            for member in members:
                parts["enums"].setdefault(owner, {}).setdefault(member, []).append(version)
    return parts


def surfaces(path: Path = SURFACE) -> dict[str, dict[str, Any]]:
    """What `merged` put together, version by version."""
    parts = json.loads(path.read_text())
    return {
        version: {
            "classes": {
                owner: {
                    member: signatures.split("; ") if signatures else []
                    for member, known in members.items()
                    for signatures, versions in known.items()
                    if version in versions
                }
                for owner, members in parts["classes"].items()
                if any(version in versions for known in members.values() for versions in known.values())
            },
            "enums": {
                owner: [member for member, versions in members.items() if version in versions]
                for owner, members in parts["enums"].items()
                if any(version in versions for versions in members.values())
            },
        }
        for version in parts["versions"]
    }


def stub(surface: dict[str, Any]) -> str:
    """Python of what every recorded TensorRT has; a member that some lack is left out, so mypy finds its use."""
    versions = [found for name, found in surface.items() if not is_rtx(name)]
    lines = [
        '"""Written by tests/tensorrt_api/record.py: what these versions of TensorRT have in common: '
        + ", ".join(name for name in surface if not is_rtx(name))
        + '."""',
        "",
        "from collections.abc import Sequence",
        "from typing import Any",
        "",
        "from typing_extensions import Buffer",
    ]
    for name in sorted(set.intersection(*(set(found["enums"]) for found in versions))):
        common = sorted(set.intersection(*(set(found["enums"][name]) for found in versions)))
        lines += ["", f"class {name}:", "    value: int", "    def __int__(self) -> int: ..."]
        lines += [f"    {member}: {name}" for member in common]
    for name in sorted(set.intersection(*(set(found["classes"]) for found in versions))):
        common = set.intersection(*(set(found["classes"][name]) for found in versions))
        latest = versions[-1]["classes"][name]
        lines += ["", f"class {name}:"]
        if name == "IHostMemory":  # of pybind's buffer protocol no name tells
            lines.append("    def __buffer__(self, flags: int, /) -> memoryview: ...")
        lines += [part for member in sorted(common) for part in rendered(name, member, latest[member])] or ["    ..."]
    return "\n".join([*lines, ""]).replace("-> None:\n        ...", "-> None: ...")


def is_rtx(version: str) -> bool:
    return version.startswith("1.")


def rendered(owner: str, member: str, signatures: list[str]) -> list[str]:
    """A method with the arguments of its first signature; overloads are of any arguments."""
    first = signatures[0] if signatures else ""
    result = annotation(first.rpartition("-> ")[2]) if "->" in first else "Any"
    result = "None" if member == "__init__" else result
    if first.startswith("property "):
        return [f"    {member}: {result}"]
    if owner == "ILogger" and member[0].isupper():
        return [f"    {member}: Any"]
    if len(signatures) > 1 or "(" not in first:
        return [f"    def {member}(self, *args: Any, **kwargs: Any) -> {result}: ..."]
    inside = first[first.index("(") + 1 : first.rindex(")")]
    words = ["self"]
    for part in re.split(r", (?=\w+: )", inside)[1:]:
        name, _, kind = part.partition(": ")
        kind, has_default, _ = kind.partition(" = ")
        words.append(f"{name}: {annotation(kind)}" + (" = ..." if has_default else ""))
    return [f"    def {member}({', '.join(words)}) -> {result}: ..."]


def annotation(kind: str) -> str:
    kind = kind.strip()
    known = {"bool", "int", "str", "float", "None", "list[str]", "bytes"}
    if kind in known or kind in CLASSES or kind in ENUMS:
        return kind
    plain = {
        "typing.SupportsInt": "int",
        "typing_extensions.Buffer": "Buffer",
        "buffer": "Buffer",
        "Dims": "Sequence[int]",
    }
    return plain.get(kind, "Any")


def main() -> None:
    parser = argparse.ArgumentParser(description="Record TensorRT's Python API from wheels of its bindings.")
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--rtx", action="store_true", help="the installed tensorrt_rtx too")
    asked = parser.parse_args()
    surface: dict[str, Any] = {}
    for wheel in asked.wheels:
        with tempfile.TemporaryDirectory() as folder:
            surface |= of_wheel(wheel, Path(folder))
    if asked.rtx:
        surface |= recorded("tensorrt_rtx")
    surface = dict(sorted(surface.items(), key=lambda item: tuple(map(int, re.findall(r"\d+", item[0])))))
    SURFACE.write_text(json.dumps(merged(surface), indent=None, separators=(",", ":")).replace("},", "},\n") + "\n")
    STUB.write_text(stub(surface))


if __name__ == "__main__":
    main()
