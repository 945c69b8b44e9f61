"""Half precision as types in the ONNX graph: what is kept in float32 and why, and the rewrite that makes it so."""

from __future__ import annotations

from lat_export.precision.convert import convert
from lat_export.precision.policy import POLICY, Kept

__all__ = ["POLICY", "Kept", "convert"]
