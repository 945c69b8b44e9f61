"""Every name of TensorRT that lat_export uses is one that real bindings have, by what was recorded from their wheels.

Method calls are checked by mypy, against stubs of the same record, and by the played module, at run time.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import ROOT
from tensorrt_api.record import STUB, SURFACE, is_rtx, stub, surfaces

from lat_export.targets.trt_kit import RTX_ALONE
from lat_export.targets.trt_options import NEEDS, VALUE_NEEDS

TARGETS = ROOT / "exporter" / "lat_export" / "targets"
PLAYED = ROOT / "tests" / "tensorrt_api" / "played"
SURFACES = surfaces()
TENSORRT = [version for version in SURFACES if not is_rtx(version)]
# What a variable is called that holds the module, whichever of the two it is.
MODULES = ("trt", "library")
# Functions of the module, which the record of classes has not.
FUNCTIONS = ("nptype", "__version__")
# Names that are asked for with hasattr, or of TensorRT-RTX alone.
GUARDED = {"EngineInvalidityDiagnostics", "ComputeCapability", "SerializationFlag.INCLUDE_REFIT"}


def has(version: str, dotted: str) -> bool:
    owner, _, member = dotted.partition(".")
    surface = SURFACES[version]
    if owner in surface["enums"]:
        return not member or member in surface["enums"][owner] or member in ("__members__", "value")
    return owner in surface["classes"] and (not member or member in surface["classes"][owner])


def used() -> Iterator[tuple[str, str]]:
    """File, and every `trt.X` or `trt.X.Y` in it."""
    for path in sorted(TARGETS.glob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or id(node) in inner:
                continue
            parts: list[str] = []
            at: ast.expr = node
            while isinstance(at, ast.Attribute):
                parts.insert(0, at.attr)
                at = at.value
            if isinstance(at, ast.Name) and at.id in MODULES and parts[0][0].isupper():
                yield path.name, ".".join(parts[:2])


def test_names_are_found() -> None:
    found = {name for _, name in used()}
    assert {"Builder", "OnnxParser", "BuilderFlag.TF32", "ILogger.ERROR", "MemoryPoolType.WORKSPACE"} <= found


@pytest.mark.parametrize("version", SURFACES)
def test_every_name_is_in_this_version(version: str) -> None:
    lacking = [name for _, name in used() if not has(version, name) and not {name, name.partition(".")[0]} & GUARDED]
    assert lacking == []


@pytest.mark.parametrize("version", TENSORRT)
def test_options_of_tensorrt_are_in_this_version(version: str) -> None:
    wanted = [part for name, parts in NEEDS.items() if name not in RTX_ALONE for part in parts]
    assert [part for part in wanted if not has(version, part)] == []
    for name in RTX_ALONE:
        assert not all(has(version, part) for part in NEEDS[name]), name


def test_options_of_rtx_are_in_it() -> None:
    (rtx,) = (version for version in SURFACES if is_rtx(version))
    wanted = [*(part for parts in NEEDS.values() for part in parts), *VALUE_NEEDS.values()]
    assert [part for part in wanted if not has(rtx, part)] == []


def test_stubs_are_of_the_record() -> None:
    assert STUB.read_text() == stub(SURFACES)
    assert "set_compute_capability" not in STUB.read_text()  # of TensorRT-RTX alone: mypy would find its use


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("builder.build_engine(network, config)", "no attribute 'build_engine'"),
        ("config.max_workspace_size = 1", "has no property max_workspace_size"),
        ("config.builder_optimization_level = '3'", "builder_optimization_level = '3'"),
        ("config.set_flag(16)", "incompatible arguments"),
        ("config.set_timing_cache(config.create_timing_cache(b''))", "incompatible arguments"),
        ("builder.create_network(flag=1)", "incompatible arguments"),
        ("trt.BuilderFlag.FP16", "FP16"),
        ("config.set_compute_capability", "set_compute_capability"),
    ],
)
def test_played_module_refuses_what_the_real_one_has_not(line: str, words: str) -> None:
    code = (
        "import tensorrt as trt\nbuilder = trt.Builder(trt.ILogger())\nconfig = builder.create_builder_config()\n"
        f"network = builder.create_network(0)\n{line}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PLAYED), "PLAYED_TENSORRT": TENSORRT[-1]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert words in done.stderr.splitlines()[-1]


def test_record_is_small() -> None:
    assert STUB.stat().st_size + SURFACE.stat().st_size < 100_000
