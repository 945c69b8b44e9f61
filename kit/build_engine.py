#!/usr/bin/env python3
"""Builds this kit's engine with Python's `tensorrt`, where there is no trtexec. Needs nothing else.

    python3 build_engine.py [--out FILE] [--plugins LIBRARY]... [--module tensorrt]

Exit codes: 0 built; 1 TensorRT does not take the model; 3 there is no `tensorrt`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parent
sys.path.insert(0, str(KIT))

import tensorrt_build  # noqa: E402  # what lat-export itself builds engines with, copied into the kit


def main() -> int:
    facts = json.loads((KIT / "kit.json").read_text())
    parser = argparse.ArgumentParser(description="Build this kit's engine with Python's tensorrt.")
    parser.add_argument("--out", type=Path, default=KIT / "build" / facts["engine"])
    parser.add_argument("--plugins", action="append", default=[], help="plugin library; may be given again")
    parser.add_argument("--module", default="tensorrt", help="Python module of the library")
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    request = {
        "module": asked.module,
        "model": str(KIT / facts["model"]),
        "engine": str(asked.out),
        "profile": facts["profile"],
        "plugins": [str(Path(library).resolve()) for library in asked.plugins],
    }
    try:
        answer = tensorrt_build.build(request)
    except ImportError as error:
        print(f"error: no {asked.module} for {sys.executable}: {error}", file=sys.stderr)
        return 3
    for warning in answer["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    for error in answer["errors"]:
        print(f"error: {error}", file=sys.stderr)
    if answer["errors"]:
        return 1
    in_plugins = ", ".join(answer["plugin_nodes"]) or "none"
    print(f"{asked.out}: {asked.module} {answer['version']}, {answer['checked']}; nodes that are plugins: {in_plugins}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
