"""Hostile arguments give an error that says what, got and expected; never a crash, never a write."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from native import c_abi
from native.op_cases import CASES
from native.test_longformer_kernels import session
from ops.references import feeds
from ops.single_op_model import single_op_model
from ops.test_longformer_ops import BANDED, GLOBAL, attributes, banded_inputs, global_inputs

from lat_export.native import KERNELS_LIBRARY, Plugins
from lat_export.ops import OPS

ARCHS = "neon" if c_abi.archs() == ["neon"] else "scalar, avx2, avx512"
NYSTROM, LSH, BERNOULLI, FULL = "NystromAttention", "LshCumulation", "BernoulliExpectation", "FullAttention"
MAKE = {BANDED: banded_inputs, GLOBAL: global_inputs}


def arguments(name: str, tensors: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
    if name == BANDED:
        return c_abi.banded_arguments(tensors, output, attributes(name))
    return c_abi.global_arguments(tensors, output, attributes(name))


SIZES = [("batch", "B"), ("tokens", "N"), ("width", "E"), ("num_heads", "num_heads")]
WRONG_SIZES = [0, -1, -(2**63), 2**31, 2**63 - 1]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("value", WRONG_SIZES)
@pytest.mark.parametrize(("field", "word"), [*SIZES, ("window", "window")])
def test_sizes(field: str, word: str, value: int, name: str, kernels: ctypes.CDLL) -> None:
    if field == "window" and name == GLOBAL:
        return
    refuses(name, {field: value}, word, kernels)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_heads": 3}, "E % num_heads == 0"),
        ({"dtype": 3}, "dtype: got 3, expected 0"),
        ({"dtype": -1}, "dtype: got -1"),
        ({"scale": 0.0}, "scale: got 0"),
        ({"scale": float("nan")}, "scale: got nan"),
        ({"scale": float("inf")}, "scale: got inf"),
        ({"attention_mask": None}, "attention_mask: got a null pointer"),
        ({"output": c_abi.Rows(None, 1, 1)}, "output: got a null pointer"),
        ({"output": c_abi.Rows(64, 2**62, 2**40)}, "output: got B="),
        ({"output": c_abi.Rows(64, -32, 32)}, "output: got B="),
        ({"output": c_abi.Rows(64, 32, 31)}, "row stride of 31, expected at least E=32"),
        ({"batch": 2**31 - 1, "tokens": 2**31 - 1}, "expected at most"),
    ],
)
def test_other_arguments(change: dict[str, Any], word: str, name: str, kernels: ctypes.CDLL) -> None:
    refuses(name, change, word, kernels)


@pytest.mark.parametrize("value", [2, -1, 2**31 - 1, -(2**31)])
def test_allow_tf32_is_0_or_1(value: int, kernels: ctypes.CDLL) -> None:
    refuses(BANDED, {"allow_tf32": value}, f"allow_tf32: got {value}, expected 0 to 1", kernels)


@pytest.mark.parametrize("pointer", ["query_weight", "query_bias", "key_weight", "value_weight", "value_bias"])
def test_weights(pointer: str, kernels: ctypes.CDLL) -> None:
    refuses(GLOBAL, {pointer: None}, f"{pointer}: got a null pointer", kernels)
    refuses(GLOBAL, {"form": 3}, "form: got 3", kernels)


def refuses(name: str, change: dict[str, Any], word: str, kernels: ctypes.CDLL) -> None:
    tensors = MAKE[name]("scattered", 17)
    output = torch.full_like(tensors[0], 7.0)
    given = arguments(name, tensors, output)
    for field, value in change.items():
        setattr(given, field, value)
    code, message = c_abi.call(kernels, given)
    assert code == c_abi.BAD_ARGUMENT
    assert word in message
    assert (output == 7).all()


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("value", [-1, 3, 2**31 - 1, -(2**31)])
def test_mask_values(value: int, name: str, kernels: ctypes.CDLL) -> None:
    tensors = MAKE[name]("plain", 17)
    tensors[3 if name == BANDED else 1][1, 5] = value
    output = torch.full_like(tensors[0], 7.0)
    code, message = c_abi.call(kernels, arguments(name, tensors, output))
    assert (code, message.partition(",")[0]) == (c_abi.BAD_ARGUMENT, f"attention_mask: got {value} at [1")
    assert (output == 7).all()


@pytest.mark.parametrize("entry", c_abi.ENTRIES.values())
def test_null_structs(entry: str, kernels: ctypes.CDLL) -> None:
    status = c_abi.Status()
    parallel = c_abi.Parallel()
    getattr(kernels, entry)(None, None, ctypes.byref(status))
    assert (status.code, status.message.decode().partition(":")[0]) == (c_abi.BAD_ARGUMENT, "args")
    getattr(kernels, entry)(ctypes.byref(status), ctypes.byref(parallel), ctypes.byref(status))
    assert (status.code, status.message.decode().partition(":")[0]) == (c_abi.BAD_ARGUMENT, "parallel->run")
    getattr(kernels, entry)(None, None, None)


def test_the_version_of_the_abi(kernels: ctypes.CDLL, ort_library: Path) -> None:
    for library in (kernels, ctypes.CDLL(str(ort_library))):
        assert library.lat_abi_version() == c_abi.ABI_VERSION


@pytest.mark.parametrize("structure", c_abi.ENTRIES)
def test_an_instruction_set_that_no_build_has(
    structure: type[ctypes.Structure], plugins: Plugins, tmp_path: Path
) -> None:
    library = c_abi.load(plugins.folder / KERNELS_LIBRARY, tmp_path, "sse9")
    assert library.lat_cpu_arch_name() == b"unknown"
    code, message = c_abi.call(library, structure())
    assert (code, message) == (c_abi.BAD_ARGUMENT, f"LAT_CPU_ARCH: got sse9, expected one of {ARCHS}")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (BANDED, {"key": np.zeros((3, 17, 16), np.float32)}, "BandedWindowAttention: input key: got shape [3, 17, 16]"),
        (BANDED, {"value": np.zeros((3, 16, 32), np.float32)}, "expected [B=3, N=17, E=32]"),
        (
            BANDED,
            {"attention_mask": np.ones((1, 17), np.int32)},
            "attention_mask: got shape [1, 17], expected [B=3, N=17]",
        ),
        (BANDED, {"attention_mask": np.full((3, 17), 5, np.int32)}, "attention_mask: got 5 at [0, 0]"),
        (
            GLOBAL,
            {"key_weight": np.zeros((32, 16), np.float32)},
            "key_weight: got shape [32, 16], expected [E=32, E=32]",
        ),
        (NYSTROM, {"conv_weight": np.zeros((3, 5), np.float32)}, "got shape [3, 5], expected [H=2, K>=1]"),
        (FULL, {"conv_weight": np.zeros((1, 5), np.float32)}, "FullAttention: input conv_weight: got shape [1, 5]"),
        (LSH, {"projection": np.zeros((3, 16, 20), np.float32)}, "projection: got shape [3, 16, 20], expected [H=2"),
        (LSH, {"projection": np.zeros((2, 15, 20), np.float32)}, "[2, 15, 20], expected [H=2, E/H=16, R*T=20]"),
        (LSH, {"projection": np.zeros((2, 16, 21), np.float32)}, "[2, 16, 21], expected [H=2, E/H=16, R*T=20]"),
        (LSH, {"projection": np.zeros((2, 320), np.float32)}, "[2, 320], expected [H=2, E/H=16, R*T=20]"),
    ],
)
def test_wrong_shapes_in_onnxruntime(name: str, change: dict[str, np.ndarray], words: str, ort_library: Path) -> None:
    tensors, options = CASES[name].make(CASES[name].kinds[1], 17)
    assert words in refused_by_onnxruntime(name, options, feeds(OPS[name], tensors) | change, ort_library)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (BANDED, {"num_heads": 0}, "BandedWindowAttention: num_heads: got 0, expected 1 to 2147483647"),
        (BANDED, {"num_heads": 3}, "num_heads: got E=32, num_heads=3"),
        (BANDED, {"window": 0}, "window: got 0"),
        (BANDED, {"window": 2**31}, "window: got 2147483648"),
        (BANDED, {"scale": -1.0}, "scale: got -1, expected a finite number > 0"),
        (BANDED, {"allow_tf32": 2}, "BandedWindowAttention: allow_tf32: got 2, expected 0 to 1"),
        (BANDED, {"allow_tf32": -1}, "allow_tf32: got -1, expected 0 to 1"),
        (BANDED, {"allow_tf32": 2**32 + 1}, "allow_tf32: got 4294967297, expected 0 to 1"),
        (NYSTROM, {"num_heads": -2}, "num_heads: got -2"),
        (NYSTROM, {"num_landmarks": 3}, "N=17, L=3"),
        (NYSTROM, {"per_head_init": 2**32}, "per_head_init: got 4294967296, expected 0 to 1"),
        (LSH, {"num_heads": 3}, "projection: got shape [2, 16, 20], expected [H=3, E/H=32/3, R*T=20]"),
        (LSH, {"num_hash": 4}, "projection: got shape [2, 16, 20], expected [H=2, E/H=16, R*T=16]"),
        (LSH, {"hash_code_len": 17}, "hash_code_len: got 17, expected 1 to 16"),
        (BERNOULLI, {"num_heads": 3}, "num_heads: got E=32, num_heads=3"),
        (BERNOULLI, {"hash_code_len": 0}, "hash_code_len: got 0"),
        (FULL, {"num_heads": 0}, "num_heads: got 0"),
    ],
)
def test_wrong_attributes_in_onnxruntime(name: str, change: dict[str, Any], words: str, ort_library: Path) -> None:
    tensors, options = CASES[name].make(CASES[name].kinds[1], 17)
    assert words in refused_by_onnxruntime(name, options | change, feeds(OPS[name], tensors), ort_library)


@pytest.mark.parametrize("value", [1.0, "1", [1], [1.0]])
def test_an_attribute_of_another_type_is_not_taken_for_none(value: Any, ort_library: Path) -> None:
    with pytest.raises(Exception, match="allow_tf32"):
        session(single_op_model(BANDED, attributes(BANDED) | {"allow_tf32": value}), ort_library)


def refused_by_onnxruntime(name: str, options: dict[str, Any], inputs: dict[str, np.ndarray], library: Path) -> str:
    """What onnxruntime says of it: an invalid argument, and why."""
    model = single_op_model(name, options)
    for value in model.graph.inputs:  # any shape passes onnxruntime's own check
        value.shape = None
    opened = session(model, library)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument) as error:
        opened.run(None, inputs)
    return str(error.value)
