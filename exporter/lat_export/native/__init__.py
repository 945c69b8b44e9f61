"""The native ops: finding and building their libraries, and calling their kernels from Python and PyTorch.

A file of this package that has a `KERNEL` is an op's; `KERNELS` holds every one by its ONNX name.

    from lat_export import native
    with native.kernels():
        torch.ops.lat.banded_window_attention(query, key, value, mask, num_heads=12, window=256, scale=0.125)
"""

from __future__ import annotations

import sys

from lat_export.native.building import TOOLS, build
from lat_export.native.kernel import Kernel
from lat_export.native.library import (
    ABI_VERSION,
    ADVICE,
    BUILD,
    CONTENTS,
    CUDA_ADVICE,
    CUDA_LIBRARY,
    FOLDER_VARIABLE,
    KERNELS_LIBRARY,
    ORT_LIBRARY,
    SOURCES,
    TENSORRT_LIBRARY,
    Plugins,
    cuda_library,
    demand_ort_library,
    describe,
    folders,
    kernels_library,
    ort_library,
    ort_library_for,
    plugins,
    tensorrt_library,
    why_not_used,
)
from lat_export.native.switch import disable, enable, kernels
from lat_export.registry import discover

KERNELS: dict[str, Kernel] = discover(sys.modules[__name__], "KERNEL", "name")

__all__ = [
    "ABI_VERSION",
    "ADVICE",
    "BUILD",
    "CONTENTS",
    "CUDA_ADVICE",
    "CUDA_LIBRARY",
    "FOLDER_VARIABLE",
    "KERNELS",
    "KERNELS_LIBRARY",
    "ORT_LIBRARY",
    "SOURCES",
    "TENSORRT_LIBRARY",
    "TOOLS",
    "Kernel",
    "Plugins",
    "build",
    "cuda_library",
    "demand_ort_library",
    "describe",
    "disable",
    "enable",
    "folders",
    "kernels",
    "kernels_library",
    "ort_library",
    "ort_library_for",
    "plugins",
    "tensorrt_library",
    "why_not_used",
]
