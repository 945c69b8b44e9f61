"""The way from PyTorch to the CUDA kernels, as far as it goes without a GPU: through the device played on the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from native.cuda_abi import Device, Guarded
from native.cuda_checks import cast, check_policy, double
from native.longformer_cuda_checks import BANDED, banded_attributes, banded_inputs

from lat_export import native
from lat_export.errors import LatExportError, MissingError, ShapeError
from lat_export.native import KERNELS, cuda
from lat_export.native.abi import DEVICE_ERROR, NO_MEMORY, UNSUPPORTED, Status

KERNEL = KERNELS["BandedWindowAttention"]


def enqueue(device: Device, tensors: tuple[torch.Tensor, ...], heads: int) -> tuple[torch.Tensor, Status]:
    output = torch.full_like(tensors[0], float("nan"))
    named = dict(zip(("query", "key", "value", "attention_mask"), tensors, strict=True))
    kept, arguments = KERNEL.filled(named, output, banded_attributes(heads, 20))
    workspaces = []

    def workspace(size: int) -> torch.Tensor:
        workspaces.append(Guarded("cpu", size))
        return workspaces[-1].data

    status = cuda.enqueue(device.library, KERNEL.cuda_entry, arguments, workspace, None)
    for one in workspaces:
        one.check()
    del kept
    return output, status


def test_arguments_reach_the_kernel(device: Device) -> None:
    tensors = cast(banded_inputs("scattered", 90, 2, 32), torch.float16)
    output, status = enqueue(device, tensors, 2)
    KERNEL.check(status)
    exact, naive = BANDED(*double(tensors), **banded_attributes(2, 20)), BANDED(*tensors, **banded_attributes(2, 20))
    check_policy(output, exact, naive, tensors[3] == 1)


def test_what_the_kernel_refuses_is_an_error_of_this_project(device: Device) -> None:
    output, status = enqueue(device, cast(banded_inputs("plain", 10, 4, 8), torch.float16), 4)
    assert status.code == UNSUPPORTED
    assert output.isnan().all()
    with pytest.raises(ShapeError, match="head size") as caught:
        KERNEL.check(status)
    assert (caught.value.got, caught.value.expected) == ("D=8", "16, 32, 64 or 128 on CUDA devices")
    assert "PyTorch reference" in str(caught.value.hint)


@pytest.mark.parametrize(("code", "hint"), [(NO_MEMORY, "smaller batch"), (DEVICE_ERROR, None)])
def test_what_the_device_says_is_passed_on(code: int, hint: str | None) -> None:
    with pytest.raises(LatExportError, match="CUDA, banded attention: an illegal address") as caught:
        KERNEL.check(Status(code, b"CUDA, banded attention: an illegal address"))
    assert (caught.value.hint is None) == (hint is None)
    assert hint is None or hint in str(caught.value.hint)


def test_a_library_without_the_op_says_so(device: Device) -> None:
    with pytest.raises(MissingError, match="the CUDA kernels have no lat_nothing_cuda"):
        cuda.enqueue(device.library, "lat_nothing_cuda", KERNEL.arguments(), lambda size: torch.empty(size), None)


def test_without_cuda_kernels_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    for ask, library in ((native.cuda_library, "liblat_cuda.so"), (native.tensorrt_library, "liblat_trt.so")):
        with pytest.raises(MissingError) as caught:
            ask()
        assert caught.value.got == f"no {library} in {tmp_path}"
        assert str(caught.value.hint).startswith("lat-export plugins build --arch native")


def test_a_library_of_an_earlier_build_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plugins build --arch none` after another one leaves the file where it was."""
    for name in (native.KERNELS_LIBRARY, native.CUDA_LIBRARY, native.TENSORRT_LIBRARY):
        (tmp_path / name).write_bytes(b"")
    contents = {
        "kernels": [],
        "onnxruntime": [],
        "archs": [],
        "compiler": "",
        "left_out": {},
        "cuda": [],
        "tensorrt": [],
    }
    (tmp_path / native.CONTENTS).write_text(json.dumps(contents))
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    for ask in (native.cuda_library, native.tensorrt_library):
        with pytest.raises(MissingError):
            ask()
