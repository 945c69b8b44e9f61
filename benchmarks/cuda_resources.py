"""Registers, spills and shared memory of every CUDA kernel on every architecture, as ptxas tells when it compiles them.

    python benchmarks/cuda_resources.py --out benchmarks/results/cuda_resources.json

Builds liblat_cuda.so anew in a folder of its own; needs cmake, ninja and nvcc, and no GPU. Ends with 1 where a kernel
spills registers or has a stack. All architectures take five minutes on two cores, so a test demands that the result is
of the sources as they are, and compiles one architecture itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lat_export.environment import provenance
from lat_export.native.building import for_cuda, nvcc

SOURCES = Path(__file__).resolve().parent.parent / "plugins"


@dataclass(frozen=True)
class Kernel:
    """
    Attributes:
        stack_bytes: of a thread, in local memory.
        shared_bytes: static ones; what a launch adds is not here.
    """

    arch: str
    name: str
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    shared_bytes: int

    @property
    def spills(self) -> bool:
        return bool(self.stack_bytes or self.spill_store_bytes or self.spill_load_bytes)


def sources_sha256() -> str:
    """Of all that CUDA code is compiled from."""
    files = [path for suffix in ("cu", "cuh", "h") for path in SOURCES.glob(f"*/*.{suffix}")]
    ours = [path for path in files if "cuda_on_host" not in path.parts] + [SOURCES / "cmake" / "Cuda.cmake"]
    whole = hashlib.sha256()
    for path in sorted(ours):
        whole.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    return whole.hexdigest()


def nvcc_release() -> str:
    compiler = nvcc()
    assert compiler is not None
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return said.strip().splitlines()[-1]


def registers_of(found: list[Kernel]) -> dict[str, dict[str, int]]:
    """Of each kernel, by architecture."""
    table: dict[str, dict[str, int]] = {}
    for kernel in sorted(found, key=lambda kernel: (kernel.name, int(kernel.arch[3:]))):
        table.setdefault(kernel.name, {})[kernel.arch] = kernel.registers
    return table


def build(arch: str, folder: Path) -> tuple[Path, list[Kernel]]:
    """liblat_cuda.so in an empty folder, and its kernels.

    Raises:
        subprocess.CalledProcessError: it does not compile; with the output.
    """
    options = ["-DLAT_WITHOUT_ORT=ON", "-DLAT_FETCH_HEADERS=OFF", *for_cuda(arch)]
    configure = ["cmake", "-S", str(SOURCES), "-B", str(folder), "-G", "Ninja", *options]
    subprocess.run(configure, check=True, capture_output=True, text=True)
    command = ["cmake", "--build", str(folder), "--target", "lat_cuda"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / "liblat_cuda.so", list(kernels(done.stdout + done.stderr))


def kernels(log: str) -> Iterator[Kernel]:
    """What `ptxas -v` wrote: a kernel's name and architecture, then its stack and spills, then what it uses."""
    entry = r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'"
    stack = r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    used = r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)"
    for found in re.finditer(f"{entry}.*?{stack}.*?{used}", log, re.DOTALL):
        shared = re.search(r"(\d+) bytes smem", found["rest"])
        counts = (int(found[group]) for group in ("registers", "stack", "stores", "loads"))
        yield Kernel(found["arch"], readable(found["name"]), *counts, int(shared[1]) if shared else 0)


def readable(name: str) -> str:
    if shutil.which("c++filt") is None:
        return name
    whole = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
    return re.sub(r"\(anonymous namespace\)::|^void |\((?:lat::)?[A-Z]\w*\)(?=\d)|lat::", "", whole).split("(")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="all", help="as lat-export plugins build has it; default all")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, found = build(arguments.arch, Path(folder))
    if arguments.out:
        result = {
            **provenance(),
            "sources_sha256": sources_sha256(),
            "nvcc": nvcc_release(),
            "spills": [asdict(kernel) for kernel in found if kernel.spills],
            "most_static_shared_bytes": max(kernel.shared_bytes for kernel in found),
            "registers": registers_of(found),
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    for arch in sorted({kernel.arch for kernel in found}, key=lambda arch: int(arch[3:])):
        mine = [kernel for kernel in found if kernel.arch == arch]
        most = max(mine, key=lambda kernel: kernel.registers)
        print(f"{arch}: {len(mine)} kernels, at most {most.registers} registers ({most.name})")
    spilled = [kernel for kernel in found if kernel.spills]
    for kernel in spilled:
        print(f"spills: {kernel.arch} {kernel.name}: {kernel.stack_bytes} bytes of stack")
    sys.exit(1 if spilled or not found else 0)


if __name__ == "__main__":
    main()
