"""Longformer, every head: exported graphs against the committed goldens and against transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_mutation as wrong
import onnxruntime
import pytest
import torch
import transformers
from families.small_checkpoint import small_checkpoint
from onnx_mutation import Mutation, error_of_mutant

from lat_export.inspection import inspect_onnx
from lat_export.pipeline import Exported, export
from lat_export.stages.load import load
from lat_export.tasks import TASKS
from lat_export.types import ModelSpec, Options, Signature, TensorSpec
from lat_export.validation.check import without_empty_globals
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden
from lat_export.validation.tolerance import RELATIVE_L2

Export = Callable[..., Exported]


@pytest.mark.parametrize("task", TASKS)
def test_every_layer_has_its_window(task: str, exported: Export) -> None:
    facts = inspect_onnx(exported(task).bundle.folder / "model.onnx")
    assert [facts.lat_nodes[f"layer.{i}.BandedWindowAttention"]["window"] for i in range(3)] == [4, 32, 16]


def test_every_length_agrees_with_transformers(exported: Export, checkpoint: Path) -> None:
    """From 1 to the maximum: no length is padded, none is special."""
    bundle = exported("question-answering").bundle
    model = transformers.LongformerForQuestionAnswering.from_pretrained(checkpoint).eval()
    session = onnxruntime.InferenceSession(str(bundle.folder / "model.onnx"))
    rng = np.random.default_rng(0)
    for tokens in [*range(1, 70), 100, 127, 128, 129, 255, bundle.signature.max_tokens]:
        ids = rng.integers(4, 384, size=(1, tokens))
        marked = np.zeros_like(ids)
        marked[0, rng.choice(tokens, size=min(3, tokens), replace=False)] = 1
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "global_attention_mask": marked}
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        start, end = session.run(["start_logits", "end_logits"], inputs)
        assert difference(start, expected.start_logits.numpy()).relative_l2 <= RELATIVE_L2["fp32"], tokens
        assert difference(end, expected.end_logits.numpy()).relative_l2 <= RELATIVE_L2["fp32"], tokens


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """A small sharpened LongformerModel with any config."""

    def make(**config: object) -> Path:
        return small_checkpoint(tmp_path / "made", "longformer", **config)

    return make


@pytest.mark.parametrize("window", [4, 6, 512, [8, 4], [64, 32]], ids=str)
def test_any_even_window(window: int | list[int], make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    made = export(ModelSpec(str(make_checkpoint(attention_window=window)), "onnx", tmp_path / "out"))
    assert made.report is not None
    assert {row.reference for row in made.report.subjects[0].rows} == {"transformers"}


@pytest.mark.parametrize("window", [2, [64, 2], [4, 10]], ids=str)
def test_windows_that_transformers_cannot_run(
    window: int | list[int], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """A window of 2, and windows that do not divide the padded length: the reference is ours, and the report says so.

    If this fails because transformers now runs them, its answer is the reference to take.
    """
    made = export(ModelSpec(str(make_checkpoint(attention_window=window)), "onnx", tmp_path / "out"))
    assert made.report is not None
    assert "lat-export reference" in {row.reference for row in made.report.subjects[0].rows}
    assert "compared with lat-export's own reference" in " ".join(made.bundle.manifest["warnings"])
    cases = Golden(made.bundle.folder).manifest["cases"]
    assert all(case["why_reference"] for case in cases if case["computed_by"] != "transformers")


def test_other_sizes_of_heads_layers_and_vocabulary(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    odd = make_checkpoint(
        attention_window=8, hidden_size=42, num_attention_heads=3, num_hidden_layers=1, vocab_size=51, hidden_act="relu"
    )
    made = export(ModelSpec(str(odd), "onnx", tmp_path / "out"))
    assert made.bundle.manifest["lat_nodes"] == {"BandedWindowAttention": 1, "GlobalTokenAttention": 1}


def test_chunked_feed_forward_and_tuples_are_compared_with_transformers(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """Chunks must divide the sequence, and tuples have no names: neither is a reason to leave transformers out."""
    made_from = make_checkpoint(attention_window=8, chunk_size_feed_forward=7, return_dict=False)
    made = export(ModelSpec(str(made_from), "onnx", tmp_path / "out"))
    assert made.report is not None
    assert {row.reference for row in made.report.subjects[0].rows} == {"transformers"}
    assert made.bundle.manifest["warnings"] == []


def test_half_precision_and_sharded_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    model = transformers.LongformerForQuestionAnswering.from_pretrained(checkpoint, dtype=torch.float16)
    model.save_pretrained(tmp_path / "half", max_shard_size="50kB")
    assert (tmp_path / "half" / "model.safetensors.index.json").is_file()
    made = export(ModelSpec(str(tmp_path / "half"), "onnx", tmp_path / "out"))
    assert made.report is not None
    assert not made.report.parity_lost


MUTATIONS: dict[str, Mutation] = {
    "window one wider": wrong.window_changed(0, +1),
    "window one narrower": wrong.window_changed(1, -1),
    "scale 1 % larger": wrong.scale_changed(2, 1.01),
    "padding ignored": wrong.mask_changed("Max", 1),
    "globals ignored": wrong.mask_changed("Min", 1),
    "one global dropped": wrong.last_global_dropped(),
    "global rows lost in one layer": wrong.globals_in_one_layer_local(1),
    "global key and value swapped": wrong.weights_swapped(0),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_graph_fails_by_a_wide_margin(name: str, exported: Export, tmp_path: Path) -> None:
    assert error_of_mutant(exported("feature-extraction"), MUTATIONS[name], tmp_path) > 100 * RELATIVE_L2["fp32"]


def test_swapped_module_leaves_the_model_as_it_was(checkpoint: Path) -> None:
    loaded = load(ModelSpec(str(checkpoint), "onnx", Path("unused")))
    before = {name: id(parameter) for name, parameter in loaded.model.named_parameters()}
    kind = type(loaded.model.longformer)
    loaded.checkpoint.family.swapped(loaded.model, Options())
    assert {name: id(parameter) for name, parameter in loaded.model.named_parameters()} == before
    assert type(loaded.model.longformer) is kind


@pytest.mark.usefixtures("traced_anew")
def test_two_exports_give_the_same_bytes(checkpoint: Path, tmp_path: Path, exported: Export) -> None:
    again = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "again", validate=False))
    first = exported("question-answering").bundle.manifest["files"]["model.onnx"]["sha256"]
    assert again.bundle.manifest["files"]["model.onnx"]["sha256"] == first


def test_trap_global_attentions_of_transformers(checkpoint: Path, tmp_path: Path) -> None:
    """Its own padding is left in, rows with fewer globals get uniform numbers, and without any there is no output."""
    loaded = load(ModelSpec(str(checkpoint), "onnx", tmp_path))
    ids = torch.randint(4, 384, (2, 50))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "global_attention_mask": torch.zeros_like(ids)}
    with torch.no_grad():
        assert "global_attentions" not in loaded.model(**inputs, output_attentions=True)
        inputs["global_attention_mask"][0, :2] = 1
        inputs["global_attention_mask"][1, 7] = 1
        found = loaded.model(**inputs, output_attentions=True).global_attentions[0]
    assert found.shape == (2, 2, 64, 2)
    torch.testing.assert_close(found[1, :, :, 1], torch.full((2, 64), 1 / 64))


@pytest.mark.parametrize("max_global", [None, 0])
def test_attentions_of_an_engine_have_columns_for_its_bound(
    max_global: int | None, checkpoint: Path, tmp_path: Path
) -> None:
    spec = ModelSpec(str(checkpoint), "trt-rtx", tmp_path / "out", outputs=("attentions",), max_global=max_global)
    made = export(spec)
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects[:2]] == ["passed", "passed"]


def test_a_number_in_a_column_of_no_global_fails(signature_with_attentions: Signature) -> None:
    reference = np.ones((1, 2, 5, 3), np.float32)
    outputs = {"global_attentions.0": np.concatenate([reference, np.zeros_like(reference)], axis=-1)}
    trimmed = without_empty_globals(outputs, signature_with_attentions, most_globals=3)
    assert np.array_equal(trimmed["global_attentions.0"], reference)
    outputs["global_attentions.0"][0, 0, 0, 4] = 1e-30
    kept = without_empty_globals(outputs, signature_with_attentions, most_globals=3)
    assert kept["global_attentions.0"].shape[-1] == 6  # a shape of its own: the comparison fails


@pytest.fixture
def signature_with_attentions() -> Signature:
    output = TensorSpec("global_attentions.0", "float32", ("batch", 2, "sequence", "globals"))
    return Signature("longformer", "feature-extraction", (), (output,), 1, 64, (), 33)
