"""torch.ops.lat on CUDA tensors, inside `lat_export.native.kernels()`: the bits of the C ABI, also in a graph."""

from __future__ import annotations

import pytest
import torch
from native import cuda_abi
from native.c_abi import banded_arguments
from native.cuda_abi import Device
from native.cuda_checks import cast
from native.longformer_cuda_checks import banded_attributes, banded_inputs, token_mask

from lat_export import native
from lat_export.errors import InputError, ShapeError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(cuda_abi.library_path() is None, reason="no liblat_cuda.so: make gpu-library"),
]
OPTIONS = banded_attributes(4, 100)


@pytest.fixture(autouse=True)
def _this_build(monkeypatch: pytest.MonkeyPatch) -> None:
    path = cuda_abi.library_path()
    assert path is not None
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(path.parent))


def inputs(dtype: torch.dtype = torch.float16) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.cuda() for tensor in cast(banded_inputs("scattered", 700, 4, 64), dtype))


def test_the_operator_runs_the_kernel() -> None:
    tensors = inputs()
    path = cuda_abi.library_path()
    assert path is not None
    expected = Device.load(path).run(banded_arguments(tensors, tensors[0], OPTIONS), tensors[0].shape, torch.float16)
    with native.kernels():
        found = torch.ops.lat.banded_window_attention(*tensors, **OPTIONS)
        assert torch.equal(found, expected)
        wider = torch.cat(tensors[:3], dim=-1).split(256, dim=-1)
        assert torch.equal(torch.ops.lat.banded_window_attention(*wider, tensors[3], **OPTIONS), expected)
    assert not torch.equal(torch.ops.lat.banded_window_attention(*tensors, **OPTIONS), expected)


def test_tf32_only_where_it_is_allowed() -> None:
    tensors = inputs(torch.float32)
    with native.kernels():
        without, default, allowed = (
            torch.ops.lat.banded_window_attention(*tensors, **OPTIONS, **given)
            for given in ({"allow_tf32": 0}, {}, {"allow_tf32": 1})
        )
    assert torch.equal(default, without)
    assert not torch.equal(allowed, without)
    assert (allowed - without).norm() < 0.01 * without.norm()


def test_a_graph_holds_it() -> None:
    tensors = inputs()
    with native.kernels():
        torch.ops.lat.banded_window_attention(*tensors, **OPTIONS)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = torch.ops.lat.banded_window_attention(*tensors, **OPTIONS)
        for kind in ("plain", "right padding"):
            tensors[3].copy_(token_mask(kind, *tensors[3].shape))
            graph.replay()
            assert torch.equal(found, torch.ops.lat.banded_window_attention(*tensors, **OPTIONS))


def test_refusals() -> None:
    query, key, value, mask = inputs()
    with native.kernels():
        with pytest.raises(ShapeError, match="another device"):
            torch.ops.lat.banded_window_attention(query, key.cpu(), value, mask, **OPTIONS)
        with pytest.raises(ShapeError, match="head size"):
            torch.ops.lat.banded_window_attention(query, key, value, mask, **banded_attributes(32, 100))
        with pytest.raises(InputError, match="no gradients"):
            torch.ops.lat.banded_window_attention(query.requires_grad_(), key, value, mask, **OPTIONS)
