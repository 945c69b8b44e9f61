"""Makes the tables of operators/ again.

    python -m lat_export.dry_run.make_importers trt-rtx > operators/trt-rtx.json
    python -m lat_export.dry_run.make_importers trt OPERATORS.md > operators/trt.json

The first asks the parser of the installed tensorrt_rtx about every op of the installed onnx (`supports_operator`: has
it an importer of that name; not: does it build every such node). The second reads docs/operators.md of the public
repository onnx/onnx-tensorrt, where TensorRT's own parser is documented: names, element types and opsets, nothing else.
It is a process of its own, as all that imports TensorRT: the parser of TensorRT-RTX can abort.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from lat_export.dry_run.importers import TYPES

OPSETS = re.compile(r"TensorRT (\S+) supports operators in the inclusive range of opset (\d+) to opset (\d+)")
ROW = re.compile(r"^\|\s*(\w+)\s*\|\s*Y\b[^|]*\|([^|]*)", flags=re.MULTILINE)


def of_rtx() -> dict[str, Any]:
    """The table of the installed TensorRT-RTX."""
    import onnx
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network()
    parser = trt.OnnxParser(network, logger)
    asked = f"tensorrt_rtx {trt.__version__}, for the ops of onnx {onnx.__version__}"
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
    return {
        "engine": "TensorRT-RTX",
        "version": trt.__version__,
        "source": f"OnnxParser.supports_operator of {asked}",
        "opsets": None,
        "operators": {"": [name for name in names if parser.supports_operator(name)]},
    }


def of_document(text: str) -> dict[str, Any]:
    """The table that docs/operators.md of onnx-tensorrt holds."""
    head = OPSETS.search(text)
    if head is None:
        raise SystemExit("no line on the version and the opsets: another form of operators.md")
    groups: dict[str, list[str]] = {}
    for name, cell in ROW.findall(text):
        types = " ".join(part for part in cell.replace(",", " ").split() if part in TYPES)
        groups.setdefault(types, []).append(name)
    return {
        "engine": "TensorRT",
        "version": head[1],
        "source": f"docs/operators.md of onnx/onnx-tensorrt, for TensorRT {head[1]}",
        "opsets": [int(head[2]), int(head[3])],
        "operators": groups,
    }


if __name__ == "__main__":
    table = of_rtx() if sys.argv[1] == "trt-rtx" else of_document(Path(sys.argv[2]).read_text())
    print(json.dumps(table, indent=1))
