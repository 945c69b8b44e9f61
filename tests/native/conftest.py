"""What tests of the CUDA kernels share where there is no GPU."""

from __future__ import annotations

import pytest
from native import cuda_on_host
from native.cuda_abi import Device


@pytest.fixture(scope="session")
def device() -> Device:
    """The CUDA kernels' own source, on a device that the host plays."""
    return cuda_on_host.built()
