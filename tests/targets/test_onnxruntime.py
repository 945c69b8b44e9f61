"""The ONNX and ONNX Runtime targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lat_export import onnx_file
from lat_export.errors import InputError, ShapeError
from lat_export.pipeline import Exported, export
from lat_export.revalidation import revalidate
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec
from lat_export.validation.report import PASSED

Export = Callable[..., Exported]


def test_optimised_model_is_fused_and_agrees(exported: Export) -> None:
    made = exported("fill-mask", "ort")
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects] == [PASSED, PASSED]
    graph = ir.load(made.bundle.folder / "model.ort.onnx").graph
    ops = [node.op_type for node in graph]
    assert "SkipLayerNormalization" in ops
    assert not [node for node in graph if node.domain == "lat"]


def test_large_weights_go_to_a_file_beside_the_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "EXTERNAL_DATA_ABOVE_BYTES", 10_000)
    made = export(ModelSpec(str(checkpoint), "ort", tmp_path / "out"))
    files = made.bundle.manifest["files"]
    assert files["model.onnx.data"]["role"] == "model weights"
    assert files["model.onnx"]["bytes"] < files["model.onnx.data"]["bytes"]
    assert all(subject.verdict == PASSED for subject in revalidate(tmp_path / "out").subjects)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention_mask": np.ones((1, 8), np.int64)}, "size of sequence differs"),
        ({"input_ids": np.full((1, 9), 5, np.int32)}, "wrong dtype"),
        ({"input_ids": np.full(9, 5)}, "wrong rank"),
        ({"input_ids": np.full((1, 9), 384)}, "no meaning for"),
        ({"input_ids": np.full((1, 9), -1)}, "no meaning for"),
        ({"attention_mask": np.full((1, 9), 2)}, "no meaning for"),
        ({"global_attention_mask": np.full((1, 9), 5)}, "no meaning for"),
        ({"global_attention_mask": None}, "is missing"),
    ],
)
def test_runner_refuses_bad_inputs(change: dict[str, np.ndarray | None], words: str, exported: Export) -> None:
    bundle = exported("question-answering").bundle
    ones = np.ones((1, 9), np.int64)
    inputs = {"input_ids": ones * 5, "attention_mask": ones, "global_attention_mask": ones} | change
    inputs = {name: array for name, array in inputs.items() if array is not None}
    with open_runner(bundle.folder / "model.onnx", bundle.signature) as run, pytest.raises(ShapeError, match=words):
        run(inputs)


def test_runner_refuses_more_tokens_than_positions(exported: Export) -> None:
    bundle = exported("question-answering").bundle
    ones = np.ones((1, bundle.signature.max_tokens + 1), np.int64)
    inputs = {"input_ids": ones * 5, "attention_mask": ones, "global_attention_mask": ones}
    with open_runner(bundle.folder / "model.onnx", bundle.signature) as run, pytest.raises(ShapeError, match="longer"):
        run(inputs)


def test_file_that_is_no_model_is_named(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with (
        pytest.raises(InputError, match=r"cannot load model\.onnx"),
        open_runner(tmp_path / "model.onnx", exported("question-answering").bundle.signature),
    ):
        pass
