"""Times lat::LshCumulation's CUDA kernels against the authors' algorithm, on a machine with an NVIDIA GPU and nvcc.

    make gpu-bench GPU_BENCH=lsh BENCH_ARGS="--tokens 4096"

Contenders: `authors`, their algorithm (lsh_of_authors.cu: float32, tables in global memory, atomics) with codes from a
float32 product of torch; `authors_tables`, the same with the codes given, so the tables alone; `sdpa`, exact softmax
attention on the same rows, for orientation. Each takes query, key and value in the layout and type that it likes best.
`lat` is the whole op, codes and norm included. Before anything is timed, ours is compared with the authors' output.
Every round runs all contenders in turn from CUDA graphs; medians count. `row_gb_per_s` counts what the queries must
read of the tables, 4 B H N R D bytes: it passes through shared memory.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import shutil
import subprocess
import sys
from ctypes import c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from native.c_abi import DTYPES as ABI_DTYPES
from native.c_abi import LshCumulation, Rows
from native.cuda_abi import Device
from race import DTYPES, ROOT, Run, ceilings, loaded, ours, race, write

HEADS, HEAD_SIZE = 12, 64
WIDTH = HEADS * HEAD_SIZE
# Two programs see a few signs near zero otherwise; a wrong table shows as much more.
MOST_DIFFERENCE = 0.05


def nvcc() -> str:
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        sys.exit("error: no nvcc on the PATH or in /usr/local/cuda/bin, which compiles the authors' algorithm")
    return found


def authors_library() -> ctypes.CDLL:
    source = Path(__file__).with_name("lsh_of_authors.cu")
    folder = ROOT / "build" / "lsh_of_authors"
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "lsh_of_authors.so"
    major, minor = torch.cuda.get_device_capability()
    arch = f"{major}{minor}"
    command = [nvcc(), "-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC", "-gencode"]
    subprocess.run([*command, f"arch=compute_{arch},code=sm_{arch}", "-o", library, source], check=True)
    loaded_library = ctypes.CDLL(str(library))
    loaded_library.lsh_pack_codes.argtypes = (c_void_p, c_void_p, c_int64, c_int, c_void_p)
    loaded_library.lsh_cumulate.argtypes = (*[c_void_p] * 6, *[c_int64] * 6, c_void_p)
    for name in ("lsh_pack_codes", "lsh_cumulate"):
        getattr(loaded_library, name).restype = c_int
    return loaded_library


def by_head(rows: torch.Tensor) -> torch.Tensor:
    """(B, N, E) -> (B * H, N, D), without gaps."""
    return rows.unflatten(2, (HEADS, HEAD_SIZE)).transpose(1, 2).flatten(0, 1).contiguous()


class Authors:
    """Their algorithm over one set of inputs; float32, by head."""

    def __init__(self, library: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], hashes: int, bits: int) -> None:
        query, key, value, self.mask, projection = tensors
        self.library, self.hashes, self.bits = library, hashes, bits
        self.rows = [by_head(rows.float()) for rows in (query, key)]
        self.value = by_head(value.float())
        batch, tokens = self.mask.shape
        self.heads, self.tokens = batch * HEADS, tokens
        # One matrix a head of a row of the batch, as a batched product wants it.
        self.projection = projection.float().repeat(batch, 1, 1)
        self.products = torch.empty(self.heads, tokens, hashes * bits, device="cuda")
        self.codes = [torch.empty(self.heads, tokens, hashes, dtype=torch.int32, device="cuda") for _ in range(2)]
        self.tables = torch.empty(self.heads * hashes * 2**bits * 32, device="cuda")
        self.sums = torch.empty_like(self.value)

    def hash(self) -> None:
        for rows, codes in zip(self.rows, self.codes, strict=True):
            torch.bmm(rows, self.projection, out=self.products)
            self._check(
                self.library.lsh_pack_codes(
                    self.products.data_ptr(), codes.data_ptr(), codes.numel(), self.bits, self._stream()
                )
            )

    def cumulate(self) -> torch.Tensor:
        pointers = (self.mask, *self.codes, self.value, self.tables, self.sums)
        self._check(
            self.library.lsh_cumulate(
                *(tensor.data_ptr() for tensor in pointers),
                *(self.heads, HEADS, self.tokens, self.hashes, self.bits, HEAD_SIZE),
                self._stream(),
            )
        )
        return torch.nn.functional.normalize(self.sums, dim=-1)

    def run(self) -> torch.Tensor:
        self.hash()
        return self.cumulate()

    @staticmethod
    def _stream() -> int:
        stream: int = torch.cuda.current_stream().cuda_stream
        return stream

    @staticmethod
    def _check(error: int) -> None:
        assert error == 0, f"CUDA error {error}"


def arguments(tensors: tuple[torch.Tensor, ...], hashes: int, bits: int) -> LshCumulation:
    *rows, mask, projection = tensors
    sizes = (*rows[0].shape, HEADS, hashes, bits, ABI_DTYPES[projection.dtype])
    return LshCumulation(*sizes, *map(Rows.of, rows), Rows(), mask.data_ptr(), projection.data_ptr())


def inputs(batch: int, tokens: int, hashes: int, bits: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Rows that share a direction, as those of a trained model do, so that buckets are of very different sizes; with
    padding at the end of every row of the batch but the first."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(batch, tokens, WIDTH, device="cuda") for _ in range(3))
    common = torch.randn(WIDTH, device="cuda") * 0.5
    mask = torch.ones(batch, tokens, dtype=torch.int32, device="cuda")
    for row in range(1, batch):
        mask[row, tokens - tokens * row // (8 * batch) :] = 0
    projection = torch.randn(HEADS, HEAD_SIZE, hashes * bits, device="cuda")
    return (query + common).to(dtype), (key + common).to(dtype), value.to(dtype), mask, projection.to(dtype)


def softmax(tensors: tuple[torch.Tensor, ...]) -> Run:
    query, key, value = (by_head(rows).unflatten(0, (-1, HEADS)) for rows in tensors[:3])
    return lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value)


def difference(output: torch.Tensor, other: torch.Tensor, mask: torch.Tensor) -> float:
    """Relative, over the rows of tokens."""
    one = by_head(output).double()
    kept = (mask != 0).repeat_interleave(HEADS, 0)[..., None]
    return float(((one - other.double()) * kept).norm() / (other.double() * kept).norm())


def profile(run: Run) -> None:
    """Time of each kernel of a call, to stdout."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recording

    with recording(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(10):
            run()
        torch.cuda.synchronize()
    print(recorded.key_averages().table(sort_by="self_device_time_total", row_limit=8, max_name_column_width=60))


def measure(
    device: Device,
    library: ctypes.CDLL,
    dtype: torch.dtype,
    case: dict[str, int],
    rates: dict[str, float],
    detail: bool,
) -> dict[str, Any]:
    batch, tokens, hashes, bits = case["batch"], case["tokens"], case["hashes"], case["bits"]
    tensors = inputs(batch, tokens, hashes, bits, dtype)
    output = torch.empty_like(tensors[0])
    call = arguments(tensors, hashes, bits)
    authors = Authors(library, tensors, hashes, bits)
    contenders: dict[str, Run] = {
        "lat": ours(device, call, output),
        "authors": authors.run,
        "authors_tables": authors.cumulate,
        "sdpa": softmax(tensors),
    }
    result: dict[str, Any] = dict(case)
    contenders["lat"]()
    result["difference"] = difference(output, authors.run(), tensors[3])
    if not result["difference"] <= MOST_DIFFERENCE:
        sys.exit(f"error: ours and the authors' output differ by {result['difference']:.3g} of their norm")
    if detail:
        profile(contenders["lat"])
        profile(authors.run)
    result["workspace_bytes"] = device.workspace_bytes(call)
    result["times"] = race(contenders)
    ms = {name: one["ms"] for name, one in result["times"].items()}
    result["row_gb_per_s"] = 4 * batch * tokens * WIDTH * hashes / ms["lat"] / 1e6
    result["gb_per_s"] = 4 * output.nbytes / ms["lat"] / 1e6
    result["share_of_copy"] = result["gb_per_s"] / rates["copy_gb_per_s"]
    result["times_faster_than"] = {name: one / ms["lat"] for name, one in ms.items() if name != "lat"}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--hashes", type=int, nargs="+", default=[64])
    parser.add_argument("--bits", type=int, nargs="+", default=[9])
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--profile", action="store_true", help="print the time of each kernel too")
    given = parser.parse_args()
    device, dtype = loaded(), DTYPES[given.dtype]
    library = authors_library()
    torch.backends.cuda.matmul.allow_tf32 = False
    rates = ceilings(dtype)
    print(f"{rates['matmul_tflops']:.0f} TFLOP/s of matrix product, {rates['copy_gb_per_s']:.0f} GB/s of copy")
    results = []
    for batch, tokens, hashes, bits in itertools.product(given.batch, given.tokens, given.hashes, given.bits):
        case = {"batch": batch, "tokens": tokens, "hashes": hashes, "bits": bits}
        results.append(measure(device, library, dtype, case, rates, given.profile))
        one = results[-1]
        faster = ", ".join(f"{name} {times:.2f}x" for name, times in one["times_faster_than"].items())
        print(
            f"B={batch} N={tokens} R={hashes} T={bits}: {one['times']['lat']['ms']:.3f} ms, "
            f"{one['row_gb_per_s']:.0f} GB/s of table rows; {faster}; differs by {one['difference']:.1e}",
            flush=True,
        )
        # What was measured so far survives a run that is cut short.
        write(f"lsh_{given.dtype}", {"dtype": given.dtype, "ceilings": rates, "cases": results})


if __name__ == "__main__":
    main()
