"""Which ONNX ops an engine's parser imports by itself: tables under operators/, each with its source and version.

`make_importers.py` makes the tables again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).resolve().parent / "operators"
# As the tables name element types; ONNX's names of the same.
TYPES = {
    "FP32": "FLOAT",
    "FP16": "FLOAT16",
    "BF16": "BFLOAT16",
    "FP8": "FLOAT8E4M3FN",
    "FP4": "FLOAT4E2M1",
    "INT4": "INT4",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}


def type_name(dtype: str) -> str:
    """ONNX's name of an element type as people write it: float32 for FLOAT."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype, dtype.lower())


@dataclass(frozen=True)
class Importers:
    """The built-in importers of one parser.

    Attributes:
        engine: title of the engine.
        version: of the engine that the table is of.
        source: where the table is from.
        opsets: smallest and largest version of the standard ops; None where the source does not say.
        operators: documented element types by op, as ONNX names them; empty where the source does not say.
    """

    engine: str
    version: str
    source: str
    opsets: tuple[int, int] | None
    operators: dict[str, frozenset[str]]

    def __contains__(self, op: str) -> bool:
        return op in self.operators


def importers(target: str) -> Importers:
    """The table of a target, by its name on the command line."""
    data = json.loads((TABLES / f"{target}.json").read_text())
    groups = data["operators"]
    operators = {op: frozenset(TYPES[name] for name in types.split()) for types, ops in groups.items() for op in ops}
    opsets = data["opsets"]
    return Importers(data["engine"], data["version"], data["source"], tuple(opsets) if opsets else None, operators)
