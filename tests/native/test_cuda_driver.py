"""The driver's functions, called with the right types and in the right order. The driver is played: no GPU is here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lat_export.errors import MissingError
from lat_export.native.cuda_driver import CudaDriver, CudaError


@pytest.fixture
def driver(played_driver: Path, monkeypatch: pytest.MonkeyPatch) -> CudaDriver:
    monkeypatch.delenv("PLAYED_CUDA_MEMORY", raising=False)
    return CudaDriver(str(played_driver))


def test_a_machine_without_a_driver_is_told() -> None:
    with pytest.raises(MissingError, match="no NVIDIA driver that will do"):
        CudaDriver("libcuda.of.nowhere.so")
    with pytest.raises(MissingError, match="undefined symbol"):
        CudaDriver("libc.so.6")


def test_a_driver_without_a_gpu_is_told(played_driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYED_CUDA_NONE", "1")
    with pytest.raises(CudaError, match="cuInit failed") as error:
        CudaDriver(str(played_driver))
    assert error.value.got == "CUDA_ERROR_NO_DEVICE: played"


def test_the_device_tells_of_itself(driver: CudaDriver) -> None:
    assert (driver.device_name, driver.compute_capability) == ("a played GPU", "9.0")


def test_copies_bring_back_what_they_took(driver: CudaDriver) -> None:
    stream, before = driver.stream(), driver.free_bytes()
    there, back = driver.pinned((3, 5), np.int64), driver.pinned((3, 5), np.int64)
    there[...] = np.arange(15).reshape(3, 5) * 2**40
    back[...] = 0
    address = driver.allocate(there.nbytes)
    assert before - driver.free_bytes() == there.nbytes
    assert address > 2**32  # whole addresses come through
    driver.copy_in(address, there, stream)
    driver.copy_out(back, address, stream)
    driver.synchronise(stream)
    assert np.array_equal(there, back)
    assert driver.pinned((0, 4), np.float32).shape == (0, 4)


def test_seconds_are_those_between_two_events_that_are_over(driver: CudaDriver) -> None:
    stream, start, end = driver.stream(), driver.event(), driver.event()
    array = driver.pinned((1024, 1024), np.uint8)
    address = driver.allocate(array.nbytes)
    driver.record(start, stream)
    driver.copy_in(address, array, stream)
    driver.record(end, stream)
    with pytest.raises(CudaError, match="CUDA_ERROR_NOT_READY"):
        driver.elapsed_s(start, end)
    driver.synchronise(stream)
    assert driver.elapsed_s(start, end) == pytest.approx((7 + 1024) * 1e-6)


def test_memory_that_is_not_there_is_told_in_the_drivers_words(driver: CudaDriver) -> None:
    with pytest.raises(CudaError) as error:
        driver.allocate(2**40)
    assert (error.value.what, error.value.got) == (
        "CUDA: cuMemAlloc_v2 failed",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    )


def timed(driver: CudaDriver, stream: int, work: Callable[[], Any]) -> float:
    start, end = driver.event(), driver.event()
    driver.record(start, stream)
    work()
    driver.record(end, stream)
    driver.synchronise(stream)
    return driver.elapsed_s(start, end)


def test_a_graph_runs_what_was_captured(driver: CudaDriver) -> None:
    stream, array = driver.stream(), driver.pinned((1024,), np.uint8)
    address = driver.allocate(array.nbytes)

    def capture() -> None:
        with driver.capture(stream) as captured:
            driver.copy_in(address, array, stream)
            driver.copy_in(address, array, stream)
        assert captured.graph is not None
        graphs.append(captured.graph)

    graphs: list[int] = []
    assert timed(driver, driver.stream(), capture) == 0  # nothing ran
    assert timed(driver, stream, lambda: driver.launch(graphs[0], stream)) == pytest.approx(16e-6)


def test_what_breaks_a_capture_is_told_and_the_stream_is_whole_again(driver: CudaDriver) -> None:
    stream = driver.stream()
    with pytest.raises(CudaError, match="cuStreamSynchronize failed") as error, driver.capture(stream):
        driver.synchronise(stream)
    assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in str(error.value)
    driver.synchronise(stream)
    with pytest.raises(ValueError, match="of the caller"), driver.capture(stream):
        raise ValueError("of the caller")
    driver.synchronise(stream)


def test_a_broken_capture_that_nobody_told_of_is_an_error(driver: CudaDriver, played_driver: Path) -> None:
    stream, played = driver.stream(), ctypes.CDLL(str(played_driver))
    with pytest.raises(CudaError, match="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"), driver.capture(stream):
        played.played_break(ctypes.c_void_p(stream))
