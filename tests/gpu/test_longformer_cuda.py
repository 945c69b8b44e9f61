"""The CUDA kernels of the two Longformer ops against the float64 reference, on a machine with an NVIDIA GPU.

make gpu-test        (on that machine; LAT_GPU_CASES=small leaves what the compute sanitizer can get through)
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest
import torch
from gpu import cuda_abi
from native.c_abi import banded_arguments, global_arguments

from lat_export.ops import OPS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(cuda_abi.library_path() is None, reason="no liblat_cuda.so: make gpu-library"),
]

BANDED, GLOBAL = OPS["BandedWindowAttention"].reference, OPS["GlobalTokenAttention"].reference
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MASKS = ("plain", "first global", "scattered", "all global", "right padding", "left padding", "half global", "no kind")
SMALL = os.environ.get("LAT_GPU_CASES") == "small"
LENGTHS = (1, 65, 200) if SMALL else (1, 2, 63, 64, 65, 127, 128, 129, 200, 257, 1000, 2049)
WINDOWS = (1, 100, 2**31 - 1) if SMALL else (1, 16, 63, 64, 65, 100, 256, 2**31 - 1)
HEAD_SIZES = (16, 32, 64, 128)
# Of the largest number of the reference.
CEILING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    path = cuda_abi.library_path()
    assert path is not None
    return cuda_abi.load(path)


@pytest.fixture(autouse=True)
def exact_products() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


def token_mask(kind: str, batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """(batch, tokens) int32, different from row to row; the last row of a batch of three or more is all padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    for row in range(batch):
        cut = tokens * (row + 1) // 4
        if kind == "first global":
            mask[row, 0] = 2
        elif kind == "scattered":
            mask[row, torch.randperm(tokens, generator=generator)[: 3 + 40 * row]] = 2
        elif kind == "right padding":
            mask[row, tokens - cut :] = 0
            mask[row, 0] = 2
        elif kind == "left padding":
            mask[row, :cut] = 0
            mask[row, -1] = 2
        elif kind == "half global":
            mask[row] = torch.randint(1, 3, (tokens,), generator=generator, dtype=torch.int32)
        elif kind == "no kind":
            mask[row] = torch.randint(-2, 6, (tokens,), generator=generator, dtype=torch.int32)
    if kind == "all global":
        mask[:] = 2
    if batch > 2:
        mask[-1] = 0
    return mask.cuda()


def normal(*shape: int, seed: int, size: float = 1.5) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size).cuda()


def kinds_only(mask: torch.Tensor) -> torch.Tensor:
    """A value that is no token kind counts as padding."""
    return torch.where((mask == 1) | (mask == 2), mask, 0)


def check_policy(output: torch.Tensor, exact: torch.Tensor, naive: torch.Tensor, rows: torch.Tensor) -> None:
    """At most twice the error of plain PyTorch in the same dtype, and within the ceiling; other rows exactly 0."""
    assert output.isfinite().all()
    assert (output[~rows] == 0).all()
    if not rows.any():
        return
    output, exact, naive = output[rows], exact[rows], naive[rows].double()
    error, allowed = (output.double() - exact).abs().max().item(), 2 * (naive - exact).abs().max().item()
    largest = exact.abs().max().item()
    # An exact tie of the rounding may go either way: half a unit in the last place of the largest number.
    tiny = max(2e-6, torch.finfo(output.dtype).eps / 2) * largest
    assert error <= allowed + tiny, f"{error:g} against {allowed / 2:g} of plain PyTorch"
    assert error <= CEILING[output.dtype] * largest


def double(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors)


def banded_inputs(kind: str, tokens: int, heads: int, head_size: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    shape = (batch, tokens, heads * head_size)
    return (*(normal(*shape, seed=seed) for seed in range(3)), token_mask(kind, batch, tokens))


def lay_out(tensors: tuple[torch.Tensor, ...], layout: str) -> tuple[torch.Tensor, ...]:
    """Query, key and value without gaps; as slices of rows of 3 E; or where no row lies on 16 bytes."""
    *activations, mask = tensors
    if layout == "slices":
        return (*torch.cat(activations, dim=-1).split(activations[0].shape[-1], dim=-1), mask)
    if layout == "odd":
        wider = [torch.nn.functional.pad(tensor, (1, 2)) for tensor in activations]
        return (*(tensor[..., 1:-2] for tensor in wider), mask)
    return tensors


def check_banded(library: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], attributes: dict[str, Any]) -> torch.Tensor:
    query, mask = tensors[0], tensors[3]
    arguments = banded_arguments(tensors, query, attributes)
    output = cuda_abi.run(library, arguments, query.shape, query.dtype)
    tensors = (*tensors[:3], kinds_only(mask))
    exact, naive = BANDED(*double(tensors), **attributes), BANDED(*tensors, **attributes)
    check_policy(output, exact, naive, mask == 1)
    return output


def banded_attributes(heads: int, window: int) -> dict[str, Any]:
    return {"num_heads": heads, "window": window, "scale": 0.11}


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_banded(kind: str, dtype: torch.dtype, head_size: int, library: ctypes.CDLL) -> None:
    for tokens in LENGTHS:
        *activations, mask = banded_inputs(kind, tokens, 2, head_size)
        tensors = (*(tensor.to(dtype) for tensor in activations), mask)
        for window in WINDOWS:
            check_banded(library, tensors, banded_attributes(2, window))


@pytest.mark.parametrize("layout", ["slices", "odd"])
@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_layouts(dtype: torch.dtype, head_size: int, layout: str, library: ctypes.CDLL) -> None:
    *activations, mask = banded_inputs("scattered", 200, 3, head_size)
    tensors = lay_out((*(tensor.to(dtype) for tensor in activations), mask), layout)
    check_banded(library, tensors, banded_attributes(3, 50))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_banded_grid_beyond_65535(dtype: torch.dtype, library: ctypes.CDLL) -> None:
    *activations, mask = banded_inputs("first global", 3, 40000, 16, batch=2)
    check_banded(library, (*(tensor.to(dtype) for tensor in activations), mask), banded_attributes(40000, 1))


def test_banded_long(library: ctypes.CDLL) -> None:
    """Lists of more than one round, far globals; against the reference in float64, one head."""
    *activations, mask = banded_inputs("half global" if SMALL else "scattered", 300 if SMALL else 9000, 1, 64, batch=2)
    for dtype in DTYPES:
        check_banded(library, (*(tensor.to(dtype) for tensor in activations), mask), banded_attributes(1, 256))


def global_inputs(kind: str, tokens: int, heads: int, head_size: int, batch: int = 4) -> tuple[torch.Tensor, ...]:
    width = heads * head_size
    matrices = [normal(width, width, seed=seed, size=width**-0.5) for seed in range(3)]
    biases = [normal(width, seed=seed, size=0.1) for seed in (4, 5)]
    hidden = normal(batch, tokens, width, seed=6)
    return hidden, token_mask(kind, batch, tokens), matrices[0], biases[0], matrices[1], matrices[2], biases[1]


def check_global(
    library: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], attributes: dict[str, Any], form: int, **how: Any
) -> None:
    hidden, mask = tensors[:2]
    arguments = global_arguments(tensors, hidden, attributes, form)
    output = cuda_abi.run(library, arguments, hidden.shape, hidden.dtype, **how)
    tensors = (hidden, kinds_only(mask), *tensors[2:])
    exact, naive = GLOBAL(*double(tensors), **attributes), GLOBAL(*tensors, **attributes)
    check_policy(output, exact, naive, mask == 2)


def cast(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors)


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_global(kind: str, dtype: torch.dtype, head_size: int, library: ctypes.CDLL) -> None:
    for tokens in LENGTHS[: 4 if SMALL else 11]:
        for form in (0, 2):
            tensors = cast(global_inputs(kind, tokens, 3, head_size), dtype)
            check_global(library, tensors, {"num_heads": 3, "scale": 0.4}, form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_as_in_a_model(dtype: torch.dtype, library: ctypes.CDLL) -> None:
    """Rows with 3, 43 and 83 globals: probes and full projections in one call; then more heads than probes."""
    for heads, head_size, tokens in ((12, 64, 300 if SMALL else 1500), (80, 16, 200)):
        tensors = cast(global_inputs("scattered", tokens, heads, head_size), dtype)
        for form in (0, 1, 2):
            check_global(library, tensors, {"num_heads": heads, "scale": 0.125}, form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_off_16_bytes(dtype: torch.dtype, library: ctypes.CDLL) -> None:
    hidden, *rest = cast(global_inputs("scattered", 200, 2, 32), dtype)
    odd = torch.nn.functional.pad(hidden, (1, 2))[..., 1:-2]
    for form in (0, 2):
        check_global(library, (odd, *rest), {"num_heads": 2, "scale": 0.2}, form)
        check_global(library, (hidden, *rest), {"num_heads": 2, "scale": 0.2}, form, offset=dtype.itemsize)


def calls(dtype: torch.dtype, tokens: int = 700) -> list[tuple[Any, torch.Tensor, torch.Tensor, tuple[Any, ...]]]:
    """Arguments, mask and an output's like of both ops; the tensors that must stay alive."""
    *activations, mask = banded_inputs("scattered", tokens, 4, 64)
    banded = (*(tensor.to(dtype) for tensor in activations), mask)
    others = cast(global_inputs("scattered", tokens, 4, 64), dtype)
    return [
        (banded_arguments(banded, banded[0], banded_attributes(4, 100)), mask, banded[0], banded),
        (global_arguments(others, others[0], {"num_heads": 4, "scale": 0.125}), others[1], others[0], others),
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_inputs_give_the_same_bits(dtype: torch.dtype, library: ctypes.CDLL) -> None:
    for arguments, _, like, _ in calls(dtype):
        runs = [
            cuda_abi.run(library, arguments, like.shape, dtype, poison=byte).clone() for byte in (0xFF, 0, 0x3C, 0x7F)
        ]
        for other in runs[1:]:
            assert torch.equal(runs[0], other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_graph_is_replayed_with_other_masks(dtype: torch.dtype, library: ctypes.CDLL) -> None:
    for arguments, mask, like, _ in calls(dtype):
        guarded, output = cuda_abi.output_like(like.shape, dtype)
        workspace = cuda_abi.Guarded(cuda_abi.workspace_bytes(library, arguments))
        arguments.output = cuda_abi.Rows.of(output)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            code, message = cuda_abi.enqueue(library, arguments, workspace.data.data_ptr())
        assert code == cuda_abi.OK, message
        for kind in ("plain", "all global", "first global", "right padding", "scattered"):
            mask.copy_(token_mask(kind, *mask.shape, seed=3))
            output.fill_(float("nan"))
            graph.replay()
            torch.cuda.synchronize()
            replayed = output.clone()
            direct = cuda_abi.run(library, arguments, like.shape, dtype)
            assert torch.equal(replayed, direct), kind
            arguments.output = cuda_abi.Rows.of(output)
        guarded.check()
        workspace.check()


def test_refusals(library: ctypes.CDLL) -> None:
    arguments, _, like, _ = calls(torch.float16)[0]
    workspace = cuda_abi.Guarded(cuda_abi.workspace_bytes(library, arguments))
    arguments.output = cuda_abi.Rows.of(torch.empty_like(like))
    code, message = cuda_abi.enqueue(library, arguments, workspace.data.data_ptr() + 16)
    assert code == cuda_abi.BAD_ARGUMENT
    assert message.startswith("workspace: got ")
    arguments.num_heads = 8 * arguments.num_heads
    code, message = cuda_abi.enqueue(library, arguments, workspace.data.data_ptr())
    assert code == cuda_abi.UNSUPPORTED
    assert "D=8" in message
