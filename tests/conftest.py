"""What many tests share: the golden checkpoints, and bundles exported from them once a run."""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime
import pytest
import torch
from native import c_abi, cuda_on_host
from native.cuda_abi import Device
from whole_run import folder_of_the_run, one_at_a_time

from lat_export import native as native_ops
from lat_export.environment import gpu_count
from lat_export.onnxruntime_options import default_options
from lat_export.pipeline import Exported, export
from lat_export.stages.bundle import read_bundle
from lat_export.targets import onnxruntime_session
from lat_export.types import ModelSpec

pytest_plugins = [
    "dry_run.fixtures",
    "native.played_driver",
    "targets.kit_fixtures",
    "traced_once",
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


@pytest.fixture(scope="session", autouse=True)
def _waiting_threads_sleep() -> Iterator[None]:
    """With tiny models onnxruntime's wait most of the time; spinning, they would take the other worker's core."""

    def options() -> onnxruntime.SessionOptions:
        made = default_options()
        made.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime_session, "default_options", options)
        yield


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """`exported(task, target, family, precision)`: a golden checkpoint, exported once for all workers."""
    done: dict[str, Exported] = {}
    folder = folder_of_the_run(tmp_path_factory, "bundles")

    def get(task: str, target: str = "onnx", family: str = "longformer", precision: str = "fp32") -> Exported:
        name = "-".join((family, task, target, precision))
        out, report = folder / name, folder / f"{name}.report"
        if name not in done:
            with one_at_a_time(folder / f"{name}.lock"):
                if not report.is_file():
                    spec = ModelSpec(str(GOLDEN / family / task / "checkpoint"), target, out, precision=precision)
                    report.write_bytes(pickle.dumps(export(spec).report))
            done[name] = Exported(read_bundle(out), pickle.loads(report.read_bytes()))
        return done[name]

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
