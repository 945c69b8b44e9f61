"""Nystroemformer: both branches, every option, what transformers does, and what each semantics means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_mutation as wrong
import pytest
import torch
import transformers
from families.small_checkpoint import small_checkpoint
from onnx_mutation import Mutation, error_of_mutant

from lat_export.errors import InputError, ShapeError
from lat_export.pipeline import Exported, export
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec, Options, Range
from lat_export.validation.report import PASSED
from lat_export.validation.tolerance import RELATIVE_L2

Export = Callable[..., Exported]
LANDMARKS = {"num_landmarks": 8, "segment_means_seq_len": 32, "conv_kernel_size": 9}
EXACT = {"num_landmarks": 8, "segment_means_seq_len": 8, "conv_kernel_size": 9}


def made(tmp_path: Path, options: Options | None = None, **config: object) -> Exported:
    folder = small_checkpoint(tmp_path / "made", "nystromformer", **config)
    return export(ModelSpec(str(folder), "onnx", tmp_path / "out", options=options or Options()))


@pytest.mark.parametrize("kernel", [1, 3, 65])
@pytest.mark.parametrize("branch", [LANDMARKS, EXACT], ids=["landmarks", "exact"])
def test_both_branches_with_any_odd_kernel(branch: dict[str, int], kernel: int, tmp_path: Path) -> None:
    exported = made(tmp_path, **{**branch, "conv_kernel_size": kernel})
    assert exported.report is not None
    assert [subject.verdict for subject in exported.report.subjects] == [PASSED]
    nodes = {"NystromAttention" if branch is LANDMARKS else "FullAttention": 2}
    assert exported.bundle.manifest["lat_nodes"] == nodes


@pytest.mark.parametrize("options", [Options(), Options(semantics="paper")], ids=["hf", "paper"])
def test_the_other_start_of_the_inverse(options: Options, tmp_path: Path) -> None:
    """transformers cannot construct this option; the op computes it."""
    folder = small_checkpoint(tmp_path / "made", "nystromformer", **LANDMARKS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "inv_coeff_init_option": True}))
    with pytest.raises(TypeError):
        transformers.NystromformerModel.from_pretrained(folder)
    exported = export(ModelSpec(str(folder), "onnx", tmp_path / "out", options=options))
    assert exported.report is not None
    assert {row.reference for row in exported.report.subjects[0].rows} == {"lat-export reference"}
    graph = ir.load(exported.bundle.folder / "model.onnx").graph
    starts = [node.attributes["per_head_init"].as_int() for node in graph if node.op_type == "NystromAttention"]
    assert starts == [1, 1]


def test_exact_branch_is_warned_about(tmp_path: Path) -> None:
    warnings = " ".join(made(tmp_path, **EXACT).bundle.manifest["warnings"])
    assert "O(N^2)" in warnings
    assert "segment_means_seq_len" in warnings


def test_even_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="conv_kernel_size must be odd"):
        made(tmp_path, **{**LANDMARKS, "conv_kernel_size": 4})


def test_length_must_be_a_multiple_of_the_landmarks(exported: Export, tmp_path: Path) -> None:
    bundle = exported("fill-mask", family="nystromformer").bundle
    assert bundle.signature.multiple_of == 8
    ones = np.ones((1, 13), np.int64)
    with (
        open_runner(bundle.folder / "model.onnx", bundle.signature) as run,
        pytest.raises(ShapeError, match="multiple of the number of landmarks") as caught,
    ):
        run({"input_ids": ones, "attention_mask": ones})
    assert "pad to 16" in str(caught.value)
    folder = small_checkpoint(tmp_path / "made", "nystromformer", **LANDMARKS)
    with pytest.raises(InputError, match="every sequence length must be a multiple") as refused:
        export(ModelSpec(str(folder), "trt-rtx", tmp_path / "out", sequence=Range(1, 30, 64)))
    assert "--seq 8:32:64" in str(refused.value)


def model_of(tmp_path: Path, **config: object) -> transformers.NystromformerModel:
    folder = small_checkpoint(tmp_path / "made", "nystromformer", **config)
    return transformers.NystromformerModel.from_pretrained(folder).eval()


def test_trap_landmarks_run_in_transformers_at_one_length_only(tmp_path: Path) -> None:
    """If this fails, transformers was mended: its answers are the reference then."""
    model = model_of(tmp_path, **LANDMARKS)
    with torch.no_grad():
        model(torch.full((2, 32), 5))
        with pytest.raises(RuntimeError):
            model(torch.full((2, 40), 5))
        mask = torch.ones(2, 32, dtype=torch.int64)
        mask[1, 20:] = 0
        with pytest.raises(RuntimeError):
            model(torch.full((2, 32), 5), attention_mask=mask)


def test_trap_rows_that_together_are_one_long_row_are_no_reference(tmp_path: Path) -> None:
    """transformers runs them without a word: its landmarks are then of all rows at once."""
    folder = small_checkpoint(tmp_path / "made", "nystromformer", **LANDMARKS)
    model = transformers.NystromformerModel.from_pretrained(folder).eval()
    with torch.no_grad():
        model(torch.full((2, 16), 5))
    fixed = {"batch": Range.parse("2"), "sequence": Range.parse("16")}
    exported = export(ModelSpec(str(folder), "onnx", tmp_path / "out", **fixed))
    assert exported.report is not None
    assert [subject.verdict for subject in exported.report.subjects] == [PASSED]
    assert "lat-export reference" in {row.reference for row in exported.report.subjects[0].rows}


def test_trap_padding_reaches_real_tokens(exported: Export, tmp_path: Path) -> None:
    """Content at padded positions changes real tokens in transformers' semantics, and not in the paper's."""
    for semantics, reached in (("hf", True), ("paper", False)):
        folder = tmp_path / semantics
        bundle = made(folder, Options(semantics=semantics), **LANDMARKS).bundle
        ids = np.random.default_rng(0).integers(2, 64, (1, 32))
        other = ids.copy()
        other[0, 20:] = 7
        mask = np.ones_like(ids)
        mask[0, 20:] = 0
        with open_runner(bundle.folder / "model.onnx", bundle.signature) as run:
            first, second = (
                run({"input_ids": array, "attention_mask": mask})["last_hidden_state"][0, :20] for array in (ids, other)
            )
        assert bool(np.abs(first - second).max() > 1e-3) == reached


MUTATIONS: dict[str, Mutation] = {
    "half the landmarks": wrong.attribute_changed("NystromAttention", "num_landmarks", 4),
    "the other start of the inverse": wrong.attribute_changed("NystromAttention", "per_head_init", 1),
    "keys moved by one row": wrong.input_replaced("NystromAttention", 1, wrong.rolled_rows(1)),
    "convolution moved by one tap": wrong.input_replaced("NystromAttention", 4, wrong.rolled_rows(1)),
    "queries 1 % larger": wrong.input_replaced("NystromAttention", 0, wrong.applied("Mul", 1.01, ir.DataType.FLOAT)),
    "padding ignored": wrong.input_replaced("NystromAttention", 3, wrong.applied("Max", 1, ir.DataType.INT32)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_graph_fails_by_a_wide_margin(name: str, exported: Export, tmp_path: Path) -> None:
    made_before = exported("feature-extraction", family="nystromformer")
    assert error_of_mutant(made_before, MUTATIONS[name], tmp_path) > 10 * RELATIVE_L2["fp32"]
