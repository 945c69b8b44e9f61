"""Half precision as types in the ONNX graph: what is computed in it and why, and the rewrite that makes it so."""

from __future__ import annotations

from lat_export.precision.convert import ELEMENT_TYPES, convert, parts_beyond, widen_outputs
from lat_export.precision.parts import Kept, chosen, part_of, parts_around, parts_of, weights_of_parts
from lat_export.precision.policy import FLOAT32, HALF, MOVES, POLICY, Rule, rule_of

__all__ = [
    "ELEMENT_TYPES",
    "FLOAT32",
    "HALF",
    "MOVES",
    "POLICY",
    "Kept",
    "Rule",
    "chosen",
    "convert",
    "part_of",
    "parts_around",
    "parts_beyond",
    "parts_of",
    "rule_of",
    "weights_of_parts",
    "widen_outputs",
]
