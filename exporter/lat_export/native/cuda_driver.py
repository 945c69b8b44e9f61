"""Streams, events, memory and graphs of one NVIDIA GPU, through the C functions of its driver.

No toolkit and no PyTorch: where there is a GPU there is libcuda.so.1. The context is the device's primary one, which
TensorRT and PyTorch use too, so their work can be put on these streams, and these events on theirs. Nothing is freed:
the processes that use it end with what they measured.

Never run on a GPU so far: tests hold its calls against a driver that a host plays (tests/native/cuda_driver).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from lat_export.errors import LatExportError, MissingError

if TYPE_CHECKING:
    import numpy as np

LIBRARY = "libcuda.so.1"
# cuda.h: CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*.
NON_BLOCKING, THREAD_LOCAL, MAJOR, MINOR = 1, 1, 75, 76
# Arguments by name; every one returns a CUresult.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_uint64),
    "cuGraphLaunch": (c_void_p, c_void_p),
}


class CudaError(LatExportError):
    """A call of the driver failed; `got` has the driver's own words."""


class Capture:
    """
    Attributes:
        graph: to launch; None until the capture has ended.
    """

    graph: int | None = None


class CudaDriver:
    """The first GPU that the driver shows, its primary context current in this thread."""

    def __init__(self, library: str = LIBRARY) -> None:
        """
        Raises:
            MissingError: no driver, or one without a function of `FUNCTIONS`.
            CudaError: no GPU.
        """
        try:
            self._library = ctypes.CDLL(library)
            for name, arguments in FUNCTIONS.items():
                getattr(self._library, name).argtypes = arguments
        except (OSError, AttributeError) as error:
            raise MissingError("no NVIDIA driver that will do", got=str(error), hint="nvidia-smi shows it") from error
        self._call("cuInit", 0)
        self._device = self._made(c_int, "cuDeviceGet", 0)
        self._call("cuCtxSetCurrent", self._made(c_void_p, "cuDevicePrimaryCtxRetain", self._device))

    @property
    def device_name(self) -> str:
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        return name.value.decode()

    @property
    def compute_capability(self) -> str:
        """As "9.0"."""
        parts = (self._made(c_int, "cuDeviceGetAttribute", attribute, self._device) for attribute in (MAJOR, MINOR))
        return ".".join(map(str, parts))

    def free_bytes(self) -> int:
        """Of the device's memory, whoever has the rest."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """Address of so many bytes on the device."""
        address: int = self._made(c_uint64, "cuMemAlloc_v2", max(size, 1))
        return address

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """An array in memory of the host that stays in its place, so that a copy of it does not hold up the stream."""
        import numpy as np

        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        address = self._made(c_void_p, "cuMemHostAlloc", max(count * kind.itemsize, 1), 0)
        memory = (ctypes.c_uint8 * (count * kind.itemsize)).from_address(address)
        return np.frombuffer(memory, dtype=kind, count=count).reshape(shape)

    def copy_in(self, address: int, array: np.ndarray[Any, Any], stream: int) -> None:
        """Put a copy of a pinned array to the device on the stream."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: np.ndarray[Any, Any], address: int, stream: int) -> None:
        """Put a copy from the device into a pinned array on the stream."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def stream(self) -> int:
        """A stream that does not wait for the default one."""
        handle: int = self._made(c_void_p, "cuStreamCreate", NON_BLOCKING)
        return handle

    def synchronise(self, stream: int) -> None:
        """Return when all that was put on the stream is done."""
        self._call("cuStreamSynchronize", stream)

    def event(self) -> int:
        handle: int = self._made(c_void_p, "cuEventCreate", 0)
        return handle

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def elapsed_s(self, start: int, end: int) -> float:
        """Between two events that are over; the clock's step is about half a microsecond."""
        milliseconds: float = self._made(c_float, "cuEventElapsedTime", start, end)
        return milliseconds / 1e3

    @contextmanager
    def capture(self, stream: int) -> Iterator[Capture]:
        """What is put on the stream inside becomes a graph instead of running.

        Raises:
            CudaError: something inside cannot be captured. An error from inside comes first: it has the reason.
        """
        capture = Capture()
        self._call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
        try:
            yield capture
        except BaseException:
            # The stream is of no use before its capture has ended; what that says now is only that it was broken.
            self._library.cuStreamEndCapture(stream, byref(c_void_p()))
            raise
        graph = c_void_p()
        self._call("cuStreamEndCapture", stream, byref(graph))
        capture.graph = self._made(c_void_p, "cuGraphInstantiateWithFlags", graph, 0)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def _made(self, kind: Any, function: str, *arguments: Any) -> Any:
        """What a function puts at the address that is its first argument."""
        place = kind()
        self._call(function, byref(place), *arguments)
        return place.value

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise CudaError(f"CUDA: {function} failed", got=self._words(code))

    def _words(self, code: int) -> str:
        """As "CUDA_ERROR_OUT_OF_MEMORY: out of memory"."""
        texts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            getattr(self._library, function)(code, byref(text))
            texts.append((text.value or b"").decode())
        return ": ".join(filter(None, texts)) or f"error {code}"
