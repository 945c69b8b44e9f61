"""TensorRT-RTX: engines for GeForce and RTX GPUs, built ahead of time on any x86-64 machine."""

from __future__ import annotations

from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.targets.trt_options import RTX_REFUSES


class TensorRTRTXTarget(TensorRTTarget):
    """`--to trt-rtx`. No plugins: the library has none, so every `lat` node runs as its body."""

    name = "trt-rtx"
    title = "TensorRT-RTX"
    has_plugins = False
    module = "tensorrt_rtx"
    how_to_get = "pip install tensorrt-rtx-cu13"
    refuses = RTX_REFUSES


TARGET = TensorRTRTXTarget()
