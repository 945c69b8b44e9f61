"""What many tests share: the golden checkpoints, and bundles exported from them once a session."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from native import c_abi, cuda_on_host
from native.cuda_abi import Device

from lat_export import native as native_ops
from lat_export.environment import gpu_count
from lat_export.pipeline import Exported, export
from lat_export.types import ModelSpec

pytest_plugins = [
    "dry_run.fixtures",
    "native.played_driver",
    "targets.kit_fixtures",
    "targets.traced_once",
    "validation.planted_faults",
]

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "golden"
FAMILY_TASKS = sorted((path.parent.parent.name, path.parent.name) for path in GOLDEN.glob("*/*/golden.json"))


# Polygraphy looks once, at its import, which of the two libraries it is for; which test imports it first is chance.
os.environ.setdefault("POLYGRAPHY_USE_TENSORRT_RTX", "1")
torch.set_num_threads(1)  # tiny models, and the tests have workers of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if gpu_count() == 0:
        skip = pytest.mark.skip(reason="no NVIDIA GPU on this machine")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """`exported(task, target, family, precision)`: a golden checkpoint, exported once a session."""
    done: dict[tuple[str, ...], Exported] = {}

    def get(task: str, target: str = "onnx", family: str = "longformer", precision: str = "fp32") -> Exported:
        key = family, task, target, precision
        if key not in done:
            out = tmp_path_factory.mktemp("bundle") / "-".join(key)
            checkpoint = GOLDEN / family / task / "checkpoint"
            done[key] = export(ModelSpec(str(checkpoint), target, out, precision=precision))
        return done[key]

    return get


@pytest.fixture
def checkpoint() -> Path:
    """A small Longformer checkpoint for question answering."""
    return GOLDEN / "longformer" / "question-answering" / "checkpoint"


@pytest.fixture(scope="session")
def device() -> Device:
    """The CUDA kernels' own source, on a device that the host plays."""
    return cuda_on_host.built()


@pytest.fixture(scope="session")
def plugins() -> native_ops.Plugins:
    found = native_ops.plugins()
    if found is None:
        pytest.skip(f"the native ops are not built: {native_ops.ADVICE}")
    return found


@pytest.fixture(scope="session")
def ort_library(plugins: native_ops.Plugins) -> Path:
    library = native_ops.ort_library()
    if library is None:
        pytest.skip(f"no native ops for onnxruntime: {plugins.left_out}")
    return library


@pytest.fixture(scope="session", params=c_abi.archs())
def kernels(
    request: pytest.FixtureRequest, plugins: native_ops.Plugins, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """The C ABI, once for each instruction set of this processor."""
    library = c_abi.load(plugins.folder / native_ops.KERNELS_LIBRARY, tmp_path_factory.mktemp("kernels"), request.param)
    assert library.lat_cpu_arch_name().decode() == request.param
    return library
