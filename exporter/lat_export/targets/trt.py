"""TensorRT 10.8 and later, and 11.

Never run so far: TensorRT's Python packages come from the vendor's own index, which was out of reach. The code keeps to
the documented calls that both majors share with TensorRT-RTX, on which the same code runs.
"""

from __future__ import annotations

from lat_export.targets.tensorrt_target import TensorRTTarget


class TensorRTNativeTarget(TensorRTTarget):
    """`--to trt`; where TensorRT is not installed and TensorRT-RTX is, that builds instead and says so."""

    name = "trt"
    title = "TensorRT"
    has_plugins = True
    module = "tensorrt"
    how_to_get = "pip install tensorrt (from the vendor's index), or the vendor's container"
    fallback = "trt-rtx"


TARGET = TensorRTNativeTarget()
