"""What is installed, what is missing, what that would enable, and how to get it."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from dataclasses import dataclass

from lat_export import native
from lat_export.environment import gpu_count
from lat_export.errors import MissingError
from lat_export.targets import TARGETS
from lat_export.targets.tensorrt_target import TensorRTTarget

# (package, what it is for, how to get it)
REQUIRED_PACKAGES = (
    ("torch", "reading checkpoints, tracing, reference outputs", "pip install torch"),
    ("transformers", "the models themselves", "pip install transformers"),
    ("onnx", "checking exported models", "pip install onnx"),
    ("onnx-ir", "writing exported models", "pip install onnx-ir"),
    ("onnxscript", "torch's ONNX exporter", "pip install onnxscript"),
    ("onnxruntime", "--to ort, and validation of every export", "pip install onnxruntime"),
    ("safetensors", "weights and golden tensors", "pip install safetensors"),
)
OPTIONAL_PACKAGES = (("polygraphy", "engines on a GPU, golden tensors as its files", "pip install polygraphy"),)


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        state: a version, "missing", or "not used" of what is there and does not fit.
        advice: how to get it, where it is missing.
    """

    part: str
    state: str
    enables: str
    advice: str = ""
    required: bool = False

    @property
    def present(self) -> bool:
        return self.state not in ("missing", "not used")


def examine() -> list[Finding]:
    """Every part that lat-export can use, required ones first."""
    findings = [Finding("python", platform.python_version(), "lat-export itself", required=True)]
    findings += [_package(*row, required=True) for row in REQUIRED_PACKAGES]
    findings += [_package(*row, required=False) for row in OPTIONAL_PACKAGES]
    findings += [_engine(target) for target in TARGETS.values() if isinstance(target, TensorRTTarget)]
    findings.append(_gpu())
    findings += [_native_ops(), _cuda_kernels(), _tensorrt_plugins()]
    return findings


def _native_ops() -> Finding:
    enables = "speed of ONNX Runtime on the CPU (without it every lat node runs as its ONNX function body)"
    found = native.plugins()
    if found is None:
        return Finding("native ops", "missing", enables, native.ADVICE)
    if unusable := found.unusable:
        expected = f", expected: {unusable.expected}" if unusable.expected else ""
        advice = f"{unusable.what} (got: {unusable.got}{expected}): {unusable.hint}"
        return Finding("native ops", "not used", enables, advice)
    if native.ort_library() is None:
        return Finding("native ops", "missing", enables, found.left_out.get("liblat_ort", native.ADVICE))
    return Finding("native ops", f"{len(found.onnxruntime)} of {len(native.KERNELS)} ops, {found.arch}", enables)


def _cuda_kernels() -> Finding:
    enables = "the lat ops on a GPU in PyTorch and ONNX Runtime"
    try:
        native.cuda_library()
    except MissingError as error:
        return Finding("CUDA kernels", "missing", enables, f"{error.hint}; {error.got}")
    found = native.plugins()
    assert found is not None
    return Finding(
        "CUDA kernels", f"{len(found.cuda)} of {len(native.KERNELS)} ops, {', '.join(found.cuda_archs)}", enables
    )


def _tensorrt_plugins() -> Finding:
    enables = "the lat ops' own kernels in TensorRT engines"
    try:
        native.tensorrt_library()
    except MissingError as error:
        return Finding("TensorRT plugins", "missing", enables, str(error.got))
    found = native.plugins()
    assert found is not None
    state = f"{len(found.tensorrt)} of {len(native.KERNELS)} ops, for TensorRT {found.tensorrt_major}"
    return Finding("TensorRT plugins", state, enables)


def _package(name: str, enables: str, advice: str, *, required: bool) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), enables, required=required)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", enables, advice, required)


def _engine(target: TensorRTTarget) -> Finding:
    enables = f"--to {target.name}"
    if target.fallback:
        enables += f" (without it, --to {target.name} builds for {TARGETS[target.fallback].title})"
    lack = target.missing()
    if lack is not None:
        return Finding(target.title, "missing", enables, lack)
    return Finding(target.title, target.version(), enables)


def _gpu() -> Finding:
    enables = "running and timing engines (building needs none)"
    if gpu_count() == 0:
        return Finding("NVIDIA GPU", "missing", enables, "validate the bundle again on a machine that has one")
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return Finding("NVIDIA GPU", f"{gpu_count()}", enables)
    names = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return Finding("NVIDIA GPU", ", ".join(names), enables)
