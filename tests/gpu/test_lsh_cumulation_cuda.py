"""The CUDA kernels of lat::LshCumulation against the float64 reference, on a machine with an NVIDIA GPU.

make gpu-test        (on that machine; LAT_GPU_CASES=small leaves what the compute sanitizer can get through)
"""

from __future__ import annotations

import os

import pytest
import torch
from native import cuda_abi
from native.c_abi import Rows
from native.cuda_abi import Device, Guarded
from native.cuda_checks import DTYPES, HEAD_SIZES, cast
from native.kernel_checks import set_field, token_mask
from native.lsh_cumulation_checks import arguments
from native.lsh_cumulation_cuda_checks import (
    KINDS,
    check_cuda,
    check_exact,
    check_long_runs,
    check_meets_itself,
    cuda_inputs,
    run,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(cuda_abi.library_path() is None, reason="no liblat_cuda.so: make gpu-library"),
]

SMALL = os.environ.get("LAT_GPU_CASES") == "small"
LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)
HASHES = ((1, 1), (5, 9)) if SMALL else ((1, 1), (5, 4), (128, 3), (13, 7), (20, 8), (64, 9), (3, 10), (2, 11), (9, 12))


@pytest.fixture(scope="module")
def device() -> Device:
    path = cuda_abi.library_path()
    assert path is not None
    return Device.load(path)


@pytest.fixture(autouse=True)
def exact_products() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_tables(kind: str, dtype: torch.dtype, head_size: int, device: Device) -> None:
    seen = []
    for tokens in LENGTHS:
        tensors = cast(cuda_inputs(kind, tokens, 2, head_size, (5, 6)), dtype)
        seen.append(check_cuda(device, tensors, (5, 6)).rows)
    assert kind == "all padding" or sum(seen) / len(seen) >= 0.9


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hashes", HASHES, ids=str)
def test_hashes_and_code_lengths(hashes: tuple[int, int], dtype: torch.dtype, head_size: int, device: Device) -> None:
    """Numbers of few bits: every row is judged."""
    for tokens in (65, 200) if SMALL else (1, 129, 1000):
        for kind in ("right", "any kind"):
            check_exact(device, cuda_inputs(kind, tokens, 2, head_size, hashes), hashes, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_in_a_model(dtype: torch.dtype, device: Device) -> None:
    """64 hashes of 9 bits, 12 heads; then more heads than blocks, so that every block has all hashes."""
    for heads, tokens, hashes in ((12, 100, (8, 9)),) if SMALL else ((12, 1500, (64, 9)), (160, 300, (16, 9))):
        tensors = cast(cuda_inputs("right", tokens, heads, 64, hashes, batch=2), dtype)
        check_cuda(device, tensors, hashes)
        check_exact(device, tensors, hashes, dtype)


@pytest.mark.parametrize("layout", ["slices", "odd", "odd values"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype: torch.dtype, head_size: int, layout: str, device: Device) -> None:
    for hashes in ((8, 7), (5, 3)):
        tensors = cast(cuda_inputs("right", 200, 3, head_size, hashes), dtype)
        check_cuda(device, tensors, hashes, layout)
        check_cuda(device, tensors, hashes, layout, offset=dtype.itemsize)


@pytest.mark.parametrize("alike", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_runs(dtype: torch.dtype, alike: float, device: Device) -> None:
    for tokens in LENGTHS[-3:]:
        check_long_runs(device, cast(cuda_inputs("right", tokens, 2, 64, (8, 9)), dtype), (8, 9), alike)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long(dtype: torch.dtype, device: Device) -> None:
    """Lists that are not staged in shared memory."""
    tokens = 8200 if SMALL else 20000
    for hashes in ((2, 9), (2, 12)):
        check_exact(device, cuda_inputs("left", tokens, 1, 64, hashes, batch=2), hashes, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_grid_beyond_65535(dtype: torch.dtype, device: Device) -> None:
    check_exact(device, cuda_inputs("right", 3, 40000, 16, (2, 3), batch=1), (2, 3), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_token_meets_itself(dtype: torch.dtype, device: Device) -> None:
    # More hashes than bfloat16 can count.
    for hashes in ((16, 3),) if dtype == torch.bfloat16 else ((16, 3), (64, 4), (128, 2)):
        check_meets_itself(device, dtype, 128, hashes)


class Call:
    """Arguments, and the tensors that they point at."""

    def __init__(self, dtype: torch.dtype, tokens: int = 700) -> None:
        made = cast(cuda_inputs("right", tokens, 4, 64, (16, 9)), dtype)
        self.tensors = tuple(tensor.cuda() for tensor in made)
        self.arguments = arguments(self.tensors, (16, 9))

    def run(self, device: Device, poison: int = 0xFF) -> torch.Tensor:
        return run(device, self.tensors, (16, 9), poison=poison)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, device: Device) -> None:
    call = Call(dtype)
    first = call.run(device)
    for poison in (0, 0x3C, 0x7F, 0xFF):
        for _ in range(3):
            assert torch.equal(call.run(device, poison), first)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_inputs(dtype: torch.dtype, device: Device) -> None:
    call = Call(dtype)
    query, key, value, mask, projection = call.tensors
    output = Guarded("cuda", query.nbytes)
    workspace = Guarded("cuda", device.workspace_bytes(call.arguments))
    rows = output.data.view(dtype).view(query.shape)
    call.arguments.output = Rows.of(rows)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        code, message = device.enqueue(call.arguments, workspace.data.data_ptr())
    assert code == cuda_abi.OK, message
    for kind in ("none", "all padding", "left", "one row all padding", "right"):
        mask.copy_(token_mask(kind, *mask.shape))
        for tensor in (query, key, value, projection):
            tensor.copy_(tensor.flip(-2))
        rows.fill_(float("nan"))
        graph.replay()
        assert torch.equal(rows, call.run(device)), kind
    output.check()
    workspace.check()


def test_refusals(device: Device) -> None:
    call = Call(torch.float16)
    call.arguments.output = Rows.of(torch.empty_like(call.tensors[0]))
    workspace = Guarded("cuda", device.workspace_bytes(call.arguments))
    code, message = device.enqueue(call.arguments, workspace.data.data_ptr() + 16)
    assert code == cuda_abi.BAD_ARGUMENT
    assert message.startswith("workspace: got ")
    for name, value, words in (
        ("num_heads", 32, "D=8"),
        ("hash_code_len", 13, "hash_code_len: got T=13"),
        ("num_hash", 129, "num_hash: got R=129"),
    ):
        code, message = device.enqueue(set_field(call.arguments, name, value), workspace.data.data_ptr())
        assert code == cuda_abi.UNSUPPORTED
        assert words in message
