"""Registers, stack and shared memory of every CUDA kernel in a library, arch by arch. A stack means spilled registers.

    python benchmarks/cuda_resources.py build/plugins/liblat_cuda.so --out build/plugins/resources.json

Needs cuobjdump: of the CUDA toolkit, or of an installed Triton. Ends with 1 where a kernel has a stack.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any


def cuobjdump() -> str:
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    triton = importlib.util.find_spec("triton")
    if found is None and triton is not None and triton.origin is not None:
        found = shutil.which("cuobjdump", path=str(Path(triton.origin).parent / "backends" / "nvidia" / "bin"))
    if found is None:
        sys.exit("error: no cuobjdump on the PATH, in /usr/local/cuda/bin or in Triton\n\nhint: pip install triton")
    return found


def readable(name: str) -> str:
    if shutil.which("c++filt") is None:
        return name
    whole = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
    return re.sub(r"\(anonymous namespace\)::|^void |\((?:lat::)?[A-Z]\w*\)(?=\d)|lat::", "", whole).split("(")[0]


def resources(library: Path) -> list[dict[str, Any]]:
    text = subprocess.run(
        [cuobjdump(), "--dump-resource-usage", str(library)], capture_output=True, text=True, check=True
    ).stdout
    arch, kernel, found = "", "", []
    for line in text.splitlines():
        if match := re.search(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\S+):", line):
            kernel = match[1]
        elif "REG:" in line:
            count = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
            found.append(
                {
                    "arch": arch,
                    "kernel": readable(kernel),
                    "registers": count["REG"],
                    "stack_bytes": count["STACK"],
                    "static_shared_bytes": count["SHARED"],
                    "local_bytes": count["LOCAL"],
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = resources(arguments.library)
    if not found:
        sys.exit(f"error: no kernel in {arguments.library}")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    for arch in sorted({one["arch"] for one in found}):
        mine = [one for one in found if one["arch"] == arch]
        most = max(mine, key=lambda one: one["registers"])
        print(f"{arch}: {len(mine)} kernels, at most {most['registers']} registers ({most['kernel']})")
    spilled = [one for one in found if one["stack_bytes"] or one["local_bytes"]]
    for one in spilled:
        print(f"spills: {one['arch']} {one['kernel']}: {one['stack_bytes']} bytes of stack")
    sys.exit(1 if spilled else 0)


if __name__ == "__main__":
    main()
