"""The custom ops, a file each. `OPS` holds every op by its ONNX name."""

from __future__ import annotations

import sys

from lat_export.ops.contract import DOMAIN, DOMAIN_VERSION, OPSET_VERSION, Op, StaticBounds
from lat_export.registry import discover

OPS: dict[str, Op] = discover(sys.modules[__name__], "OP", "name")

__all__ = ["DOMAIN", "DOMAIN_VERSION", "OPS", "OPSET_VERSION", "Op", "StaticBounds"]
