"""lat_bernoulli_expectation_cpu against the float64 reference, on every instruction set of this processor."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from native import c_abi
from native.c_abi import DTYPES, NO_MEMORY, Guarded, Rows, pointer
from native.kernel_checks import (
    HEAD_SIZES,
    MASKS,
    WORDS,
    apart,
    bad_sizes,
    cast,
    check_policy,
    check_refused,
    check_same_bits,
    random_rows,
    run_into_guarded,
    set_field,
    token_mask,
    without,
)

from lat_export.ops import OPS

OP = OPS["BernoulliExpectation"]
LENGTHS = (1, 2, 5, 17, 33, 64, 65, 97, 257, 300)
SIZES = ("batch", "tokens", "width", "num_heads", "hash_code_len")
POINTERS = ("query", "key", "value", "attention_mask", "output")

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
ARCH_FLAGS = {
    "scalar": (),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c"),
    "neon": (),
}


def inputs(tokens: int, kind: str = "none", heads: int = 2, size: int = 16, batch: int = 3) -> tuple[torch.Tensor, ...]:
    rows = random_rows((batch, tokens, heads * size), seed=tokens + size)
    return (*rows, token_mask(kind, batch, tokens))


def arguments(tensors: tuple[torch.Tensor, ...], heads: int, bits: int) -> c_abi.BernoulliExpectation:
    *rows, mask = tensors
    sizes = (*rows[0].shape, heads, bits, DTYPES[rows[0].dtype])
    return c_abi.BernoulliExpectation(*sizes, *map(Rows.of, rows), Rows(), pointer(mask))


def call(
    kernels: ctypes.CDLL, tensors: tuple[torch.Tensor, ...], heads: int = 2, bits: int = 9, parallel=None
) -> torch.Tensor:
    return run_into_guarded(kernels, arguments(tensors, heads, bits), tensors[0], parallel)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_is_the_reference(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    for tokens, kind in itertools.product(LENGTHS, MASKS):
        tensors = cast(inputs(tokens, kind), dtype)
        output = call(kernels, tensors, bits=4)
        check_policy(OP, output, tensors, {"num_heads": 2, "hash_code_len": 4})
        assert (output[tensors[3] == 0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_head_size_and_code_length(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    for size, heads, bits in itertools.product((*HEAD_SIZES, 1, 3, 65), (1, 2, 3), (1, 2, 9, 31)):
        tensors = cast(inputs(33, "right", heads, size), dtype)
        check_policy(OP, call(kernels, tensors, heads, bits), tensors, {"num_heads": heads, "hash_code_len": bits})


def test_rows_may_lie_apart(kernels: ctypes.CDLL) -> None:
    tensors = inputs(40, "right")
    assert torch.equal(call(kernels, apart(tensors)), call(kernels, tensors))


def test_same_bits_for_any_threads(kernels: ctypes.CDLL) -> None:
    tensors = inputs(600, "right", 3, 20)
    check_same_bits(lambda parallel: call(kernels, tensors, 3, 9, parallel))


@pytest.mark.parametrize("dtype", DTYPES)
def test_parallel_zero_and_constant_rows_give_no_nan(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    rows, _, value, mask = cast(inputs(200), dtype)
    zero, one = torch.zeros_like(rows), torch.ones_like(rows)
    for query, key, v in (
        (rows, rows, value),
        (rows, -rows, value),
        (zero, rows, value),
        (one, one, one),
        (one, zero, zero),
    ):
        assert call(kernels, (query, key, v, mask)).isfinite().all()


def test_opposite_rows_have_no_weight(kernels: ctypes.CDLL) -> None:
    """A cosine of -1 exactly: weight 0, so only the other key is seen."""
    query = torch.tensor([[[1.0, 0.0]]]).expand(1, 2, 2).contiguous()
    key, value = torch.tensor([[[-2.0, 0.0], [3.0, 0.0]]]), torch.tensor([[[5.0, 1.0], [0.0, 7.0]]])
    output = call(kernels, (query, key, value, torch.ones(1, 2, dtype=torch.int32)), heads=1)
    assert output.tolist() == [[[0.0, 1.0]] * 2]


RATES = """
#include "common/vector_math.h"
extern "C" void rates(const float* x, float* y, int64_t count) {
  using namespace lat::LAT_ARCH;
  for (int64_t i = 0; i < count; i += kLanes) store(y + i, collision_rate(load(x + i)));
}
extern "C" void exponentials(const float* x, float* y, int64_t count) {
  using namespace lat::LAT_ARCH;
  for (int64_t i = 0; i < count; i += kLanes) store(y + i, exp2_of_nonpositive(load(x + i)));
}
"""


@pytest.fixture(scope="module", params=c_abi.archs())
def math(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("math")
    (folder / "rates.cpp").write_text(RATES)
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    includes = [f"-I{PLUGINS}"]
    flags = ["-std=gnu++17", "-O3", "-fPIC", *ARCH_FLAGS[request.param], f"-DLAT_ARCH={request.param}", *includes]
    command = [compiler, *flags, "-shared", str(folder / "rates.cpp"), "-o", str(folder / "rates.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "rates.so"))


def mapped(function: object, x: np.ndarray) -> np.ndarray:
    x = np.ascontiguousarray(np.resize(x, -(-len(x) // 16) * 16), dtype=np.float32)
    y = np.empty_like(x)
    function(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(x)))  # type: ignore[operator]
    return y


def test_collision_rate_is_good_to_float32(math: ctypes.CDLL) -> None:
    """8 million numbers of [-1, 1] evenly, and every float32 within 2^-11 of both ends."""
    near_one = np.arange(0x3F7FE000, 0x3F800001, dtype=np.uint32).view(np.float32)
    small = 2.0 ** -np.arange(1, 149, dtype=np.float64)
    x = np.concatenate([np.linspace(-1, 1, 8_000_001), near_one, -near_one, small, -small, [0.0, -0.0]]).astype(
        np.float32
    )
    x = np.resize(x, -(-len(x) // 16) * 16)
    exact = 1 - np.arccos(x.astype(np.float64)) / np.pi
    exact = np.where(
        x < -0.5, np.arctan2(np.sqrt((1 - x.astype(np.float64)) * (1 + x)), -x.astype(np.float64)) / np.pi, exact
    )
    rate = mapped(math.rates, x).astype(np.float64)
    assert np.abs(rate - exact).max() <= 1e-7
    relative = np.abs(rate - exact)[exact > 0] / exact[exact > 0]
    assert relative.max() <= 3e-7
    ends = mapped(math.rates, np.array([-1, 0, 1, -0.0, 1.0000002, -1.0000002, 2, -3], dtype=np.float32))[:8]
    assert ends.tolist() == [0.0, 0.5, 1.0, 0.5, 1.0, 0.0, 1.0, 0.0]


def test_exponential_is_good_to_float32(math: ctypes.CDLL) -> None:
    x = np.linspace(-126, 0, 4_000_000).astype(np.float32)
    exact = np.exp2(x.astype(np.float64))
    assert (np.abs(mapped(math.exponentials, x) - exact) / exact).max() <= 1.5e-7
    ends = mapped(math.exponentials, np.array([0, -0.0, -127, -1e30, -np.inf, -1e-30], dtype=np.float32))[:6]
    assert ends.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def test_bad_arguments_are_refused_and_nothing_is_written(kernels: ctypes.CDLL) -> None:
    tensors, output = inputs(9), Guarded((3, 9, 32), torch.float32)
    good = arguments(tensors, 2, 9)
    good.output = Rows.of(output.tensor)
    for name, size in bad_sizes(SIZES):
        check_refused(kernels, set_field(good, name, size), output, f"{WORDS.get(name, name)}: got {size}")
    for name in POINTERS:
        check_refused(kernels, without(good, name), output, f"{name}: got a null pointer")
    for dtype in (-1, 3, 99):
        check_refused(kernels, set_field(good, "dtype", dtype), output, "dtype")
    product = good
    for name in ("batch", "tokens"):
        product = set_field(product, name, 2**30)
    check_refused(kernels, product, output, "expected at most")


def test_more_scratch_than_there_is(kernels: ctypes.CDLL) -> None:
    tensors, output = inputs(9), Guarded((3, 9, 32), torch.float32)
    huge = arguments(tensors, 1, 9)
    huge.batch, huge.tokens, huge.width = 2**20, 2**24, 1
    huge.query = huge.key = huge.value = huge.output = Rows(output.tensor.data_ptr(), 0, 1)
    code, message = c_abi.call(kernels, huge)
    assert (code, "no memory" in message) == (NO_MEMORY, True)
    assert output.untouched()
