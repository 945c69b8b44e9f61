"""Messages of TensorRT and TensorRT-RTX, as errors of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lat_export.environment import gpu_count
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.pipeline import Exported
from lat_export.targets import TARGETS, BuildPlan, tensorrt_run
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.targets.trt_errors import KNOWN, explained
from lat_export.types import Range, TensorSpec

RTX = TARGETS["trt-rtx"]
RTX_LACK = RTX.missing()
needs_rtx = pytest.mark.skipif(RTX_LACK is not None, reason=f"TensorRT-RTX is missing: {RTX_LACK}")
node = helper.make_node


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.what[:40])
def test_every_row_is_the_one_for_its_own_example(known: Any) -> None:
    """So no row stands in the way of a later one, and no pattern misses its message."""
    error = explained("TensorRT", [known.example], "build")
    assert error.hint == known.hint
    assert isinstance(error, MissingError if known.missing else InputError)
    assert error.got == known.example
    assert known.source


def test_the_cause_is_told_and_not_its_consequences() -> None:
    """As TensorRT-RTX logs them: a missing driver is in every list of a machine like this, and refuses no graph."""
    cuda = (
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is ...)"
    )
    for first in KNOWN[:-1]:
        for messages in ([first.example, cuda], [cuda, first.example]):
            assert explained("TensorRT", messages, "build").hint == first.hint


def test_words_that_no_row_knows_are_kept() -> None:
    error = explained("TensorRT", ["something new (node 3 'layer.0/Gelu', Gelu)", "and more"], "build")
    assert error.what == "TensorRT does not take this graph"
    assert error.got == "something new (node 3 'layer.0/Gelu', Gelu)\nand more"
    assert error.where == {"stage": "build", "node": "layer.0/Gelu"}
    assert explained("TensorRT", [], "run", "gave no engine").what == "TensorRT gave no engine"


def graph(
    path: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], **arrays: np.ndarray[Any, Any]
) -> Path:
    values = [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializer = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = helper.make_graph(nodes, "g", values, [output], initializer=initializer)
    path.write_bytes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    )
    return path


FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
X = {"x": (FLOAT, ["n", 4])}
# What the graph is, and what is told of it: words, node.
REFUSED: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any], str, str | None]] = {
    "unknown op": ([node("NoSuchOp", ["x"], ["y"], name="victim")], X, {}, "the parser knows no such op", "victim"),
    "no importer": ([node("NonZero", ["x"], ["y"], name="nz")], X, {}, "the parser knows no such op", "nz"),
    "types": (
        [node("Add", ["x", "h"], ["y"], name="adder")], {**X, "h": (HALF, ["n", 4])}, {}, "different types", "adder",
    ),
    "shapes": (
        [node("Add", ["x", "b"], ["y"], name="adder")], X, {"b": np.ones((3, 4), np.float32)}, "do not fit together",
        "adder",
    ),
    "top k": (
        [node("TopK", ["x", "k"], ["y", "at"], name="top", axis=1)], {"x": (FLOAT, ["n", 5000])},
        {"k": np.array([4000])}, "more than 3840", "top",
    ),
}  # fmt: skip


@needs_rtx
@pytest.mark.parametrize("case", REFUSED)
def test_rtx_own_words_are_understood(case: str, tmp_path: Path) -> None:
    nodes, inputs, arrays, words, name = REFUSED[case]
    assert isinstance(RTX, TensorRTTarget)
    path = graph(tmp_path / "m.onnx", nodes, inputs, **arrays)
    specs = tuple(TensorSpec(x, "float32", tuple(dims)) for x, (_, dims) in inputs.items())
    with pytest.raises(LatExportError) as caught:
        RTX.build_engine(path, tmp_path / "e", specs, BuildPlan({"n": Range(2, 2, 2)}))
    assert words in caught.value.what
    assert caught.value.where.get("node") == name
    assert caught.value.hint
    assert caught.value.got
    assert not (tmp_path / "e").exists()


@needs_rtx
@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a driver")
def test_missing_driver_is_told_where_an_engine_is_opened(
    exported: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exported("text-classification", "trt-rtx").bundle  # first: other tests have the same one
    monkeypatch.setattr(tensorrt_run, "gpu_count", lambda: 1)
    with (
        pytest.raises(MissingError, match="this machine cannot load the engine") as caught,
        tensorrt_run.open_engine(bundle.folder / "model.trt-rtx.engine", "tensorrt_rtx"),
    ):
        pass
    assert "CUDA does not start" in str(caught.value)
    assert "nvidia-smi" in str(caught.value.hint)
