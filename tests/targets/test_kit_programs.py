"""What a kit builds, from the kit alone: engines by Python, and lat_run, which compares with the golden tensors."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kit_files
import numpy as np
import pytest
from conftest import GOLDEN
from targets.kit_fixtures import KITS_MADE, Kit, facts_of

from lat_export import native
from lat_export.pipeline import export
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.trt_kit import KIT_MODEL
from lat_export.types import ModelSpec, Range
from lat_export.validation.golden import Golden

HEADERS = [Path(folder) for folder in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if folder]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit_files.build_lat_run(tmp_path_factory.mktemp("lat_run"), "-DLAT_RUN_ENGINE=OFF")


def outputs_of(folder: Path, bundle: Any) -> kit_files.Arrays:
    """What onnxruntime makes of the model for TensorRT, for every case of the kit, as lat_run takes it."""
    facts, found = facts_of(folder), {}
    tensors = {case["tensors"] for case in facts["cases"]}
    with open_runner(folder / KIT_MODEL, bundle.signature) as run:
        for index, case in enumerate(Golden(folder)):
            if f"{index:03d}" in tensors:
                found |= {f"{index:03d}.outputs.{name}": array for name, array in run(case.inputs).items()}
    return found


@pytest.mark.parametrize("family", KITS_MADE)
def test_lat_run_passes_what_the_model_computes(family: str, kit: Kit, program: Path, tmp_path: Path) -> None:
    """And fails it with one output moved by more than its tolerance."""
    bundle = kit(family).bundle
    outputs = outputs_of(bundle.folder, bundle)
    file = kit_files.write_outputs(tmp_path / "outputs.safetensors", outputs)
    done = kit_files.lat_run(program, bundle.folder, "--outputs", file)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = facts_of(bundle.folder)
    assert f"passed: {len(outputs)} comparisons in {len(facts['cases'])} cases" in done.stdout
    assert done.stdout.count("  passed") == len(outputs)
    victim = max(outputs, key=lambda name: outputs[name].size)
    outputs[victim] = outputs[victim] * np.float32(1.0001)
    done = kit_files.lat_run(program, bundle.folder, "--outputs", kit_files.write_outputs(file, outputs))
    assert done.returncode == 1
    assert done.stdout.count("FAILED  ") <= 1
    assert "1 failed" in done.stdout


def test_bars_of_attention_outputs_and_kept_rows(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of globals that the batch does not have, and goldens with only some rows."""
    from lat_export.stages import record

    monkeypatch.setattr(record.record, "__defaults__", (({},), 4096, None, "fp32"))  # bytes that are kept of a case
    checkpoint = GOLDEN / "longformer" / "feature-extraction" / "checkpoint"
    out, sizes = tmp_path / "kit", {"batch": Range(1, 1, 2), "sequence": Range(1, 16, 24), "max_global": 4}
    spec = ModelSpec(str(checkpoint), "trt", out, kit=True, outputs=("attentions",), **sizes)  # type: ignore[arg-type]
    made = export(spec)
    bars = [bar for case in facts_of(out)["cases"] for bar in case["outputs"].values()]
    assert any(bar["rows_axis"] is not None for bar in bars)
    assert any(bar["first_empty_column"] is not None for bar in bars)
    file = kit_files.write_outputs(tmp_path / "outputs.safetensors", outputs_of(out, made.bundle))
    done = kit_files.lat_run(program, out, "--outputs", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_golden_tensors_there_is_nothing_to_compare(program: Path, tmp_path: Path) -> None:
    checkpoint = GOLDEN / "yoso" / "text-classification" / "checkpoint"
    out = tmp_path / "kit"
    export(ModelSpec(str(checkpoint), "trt", out, kit=True, validate=False))
    assert facts_of(out)["cases"] == []
    assert "exported with `--no-validate`" in (out / "README.md").read_text()
    kit_files.write_outputs(out / "outputs.safetensors", {"x": np.zeros(1)})
    done = kit_files.lat_run(program, out, "--outputs", out / "outputs.safetensors")
    assert done.returncode == 2
    assert "nothing can be compared" in done.stderr


@pytest.mark.parametrize("family", KITS_MADE)
def test_python_builds_an_engine_of_its_bodies(family: str, kit: Kit, tmp_path: Path) -> None:
    """With TensorRT-RTX, whose builder needs no GPU; without lat-export. TensorRT itself has never run it."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs tensorrt_rtx: pip install tensorrt-rtx-cu13")
    folder = Path(shutil.copytree(kit(family).bundle.folder, tmp_path / "kit"))
    engine = tmp_path / "engines" / "model.engine"
    alone = (
        "import runpy, sys; sys.modules['lat_export'] = sys.modules['torch'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", alone, folder / "build_engine.py", "--out", engine, "--module", "tensorrt_rtx"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert "nodes that are plugins: none" in done.stdout
    assert engine.stat().st_size > 100_000


PLAYED_TENSORRT = """
# Plays Python's tensorrt to build_engine.py, and notes what matters on stdout.
import enum, pathlib
__version__ = "11.1.0"
class ILogger:
    ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"
BuilderFlag = enum.Enum("BuilderFlag", "TF32")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "JSON")
LayerType = enum.Enum("LayerType", "PLUGIN_V3 SHUFFLE")
NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {"STRONGLY_TYPED": 1})
class Registry:
    def __init__(self, owner): self.owner = owner
    def load_library(self, path): print("load", self.owner, path)
class Tensor:
    name, dtype, shape = "logits", "DataType.FLOAT", (-1,)
class Layer:
    name, type, num_outputs = "layer.0.BandedWindowAttention", LayerType.PLUGIN_V3, 0
class Network:
    num_inputs = num_outputs = num_layers = 1
    def get_input(self, index): return Tensor()
    get_output = get_input
    def get_layer(self, index): return Layer()
class Profile:
    def set_shape(self, *shapes): print("shape", *shapes)
class Config:
    def clear_flag(self, flag): print("clear", flag.name)
    def add_optimization_profile(self, profile): return 0
class Builder:
    def __init__(self, log): self.log = log
    def get_plugin_registry(self): return Registry("builder")
    def create_network(self, flags): print("network", flags); return Network()
    def create_builder_config(self): return Config()
    def create_optimization_profile(self): return Profile()
    def build_serialized_network(self, network, config):
        if pathlib.Path("refuse").exists():
            self.log.log(ILogger.ERROR, "layer.0: no implementation")
            return None
        return b"a plan"
class OnnxParser:
    num_errors = 0
    def __init__(self, network, log): pass
    def parse_from_file(self, path): print("parse", path); return True
class Runtime:
    def __init__(self, log): pass
    def get_plugin_registry(self): return Registry("runtime")
    def deserialize_cuda_engine(self, plan): return Engine()
class Engine:
    def create_engine_inspector(self): return self
    def get_engine_information(self, form): return "{}"
"""


def test_python_asks_tensorrt_for_the_right_engine(kit: Kit, tmp_path: Path) -> None:
    """build_engine.py with a module that plays TensorRT: plugins in both registries, types, profile, and a refusal."""
    (tmp_path / "tensorrt.py").write_text(PLAYED_TENSORRT)
    folder = kit("longformer").bundle.folder
    library, engine = tmp_path / "liblat_trt.so", tmp_path / "out" / "model.engine"
    command = [sys.executable, "-B", folder / "build_engine.py", "--plugins", library.name, "--out", engine]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    names = ("input_ids", "attention_mask", "global_attention_mask")
    assert said[:-1] == [
        f"load builder {library}",
        "network 2",
        f"parse {folder / KIT_MODEL}",
        "clear TF32",
        *(f"shape {name} [1, 16] [1, 64] [2, 128]" for name in names),
        f"load runtime {library}",
    ]
    assert said[-1].endswith("tensorrt 11.1.0, deserialised; nodes that are plugins: layer.0.BandedWindowAttention")
    assert engine.read_bytes() == b"a plan"
    engine.unlink()
    (tmp_path / "refuse").touch()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "error: layer.0: no implementation" in done.stderr
    assert not engine.exists()


def test_python_without_tensorrt_is_exit_code_3(kit: Kit) -> None:
    script = kit("longformer").bundle.folder / "build_engine.py"
    done = subprocess.run(
        [sys.executable, "-B", script, "--module", "no_such_module"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "no no_such_module for" in done.stderr


@pytest.mark.parametrize("headers", HEADERS or [None], ids=str)
def test_lat_run_is_built_and_the_plugins_configured_from_the_kit_alone(
    headers: Path | None, kit: Kit, tmp_path: Path
) -> None:
    """The plugins' objects without device code; nvcc on every kernel takes minutes, and tests/native does that."""
    if headers is None:
        pytest.skip("no TensorRT headers: TENSORRT_INCLUDE_DIR names none")
    compiler = shutil.which("nvcc")
    if compiler is None or any(shutil.which(tool) is None for tool in native.TOOLS):
        pytest.skip(f"needs nvcc, {', '.join(native.TOOLS)}")
    folder = Path(shutil.copytree(kit("longformer").bundle.folder, tmp_path / "kit"))
    build = folder / "build"
    configure = ["cmake", "-S", folder, "-B", build, "-G", "Ninja", "-DLAT_CUDA_ARCHS=90"]
    for command in (
        [*configure, f"-DTENSORRT_INCLUDE_DIR={headers}", f"-DCMAKE_CUDA_COMPILER={compiler}"],
        ["cmake", "--build", build, "--target", "lat_run"],
        ["ninja", "-C", build, "-t", "commands", "all"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
    commands = done.stdout
    assert "liblat_trt.so" in commands
    assert "kernel_cpu" not in commands  # nothing that the engine does not need
    done = kit_files.lat_run(build / "lat_run", folder, "--engine", "nothing")
    assert done.returncode == 3
    adapters = re.findall(r"-o (\S*tensorrt_\w+\.cpp\.o) ", commands)
    assert len(adapters) >= 4
    done = subprocess.run(["ninja", "-C", build, *adapters], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
