"""Fixtures over the built native ops; without them these tests are skipped, and say how to build them."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from native import c_abi

from lat_export import native


@pytest.fixture(scope="session")
def plugins() -> native.Plugins:
    found = native.plugins()
    if found is None:
        pytest.skip(f"the native ops are not built: {native.ADVICE}")
    return found


@pytest.fixture(scope="session")
def ort_library(plugins: native.Plugins) -> Path:
    library = native.ort_library()
    if library is None:
        pytest.skip(f"no native ops for onnxruntime: {plugins.left_out}")
    return library


@pytest.fixture(scope="session", params=["scalar", "avx2", "avx512", "neon"])
def kernels(
    request: pytest.FixtureRequest, plugins: native.Plugins, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """The C ABI, once for each instruction set of this build and processor."""
    if request.param not in plugins.archs:
        pytest.skip(f"this build has no kernels for {request.param}")
    library = c_abi.load(plugins.folder / native.KERNELS_LIBRARY, tmp_path_factory.mktemp("kernels"), request.param)
    if library.lat_cpu_arch_name().decode() != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return library
