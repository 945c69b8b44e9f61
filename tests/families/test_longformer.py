"""Longformer, every head: exported graphs against the committed goldens and against transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from conftest import GOLDEN, LONGFORMER_TASKS
from families import onnx_mutation as wrong
from families.onnx_mutation import Mutation, mutate

from lat_export.inspection import inspect_onnx
from lat_export.pipeline import Exported, export
from lat_export.stages.load import load
from lat_export.tasks import TASKS
from lat_export.types import ModelSpec, Options
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden, take_rows
from lat_export.validation.tolerance import RELATIVE_L2

Export = Callable[..., Exported]


def run(model: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, inputs), strict=True))


def test_every_task_has_a_golden() -> None:
    assert sorted(TASKS) == LONGFORMER_TASKS


@pytest.mark.parametrize("task", LONGFORMER_TASKS)
def test_export_matches_the_committed_golden(task: str, exported: Export) -> None:
    """The goldens come from transformers' own modules, at another time: not from this run, not from our modules."""
    model = exported(task).bundle.folder / "model.onnx"
    golden = Golden(GOLDEN / "longformer" / task)
    for case in golden:
        assert case.computed_by == "transformers"
        outputs = take_rows(run(model, case.inputs), case.rows, golden.signature)
        assert set(outputs) == set(case.outputs)
        for name, reference in case.outputs.items():
            assert difference(outputs[name], reference).relative_l2 <= RELATIVE_L2["fp32"], (case.case.name, name)


@pytest.mark.parametrize("task", LONGFORMER_TASKS)
def test_graph_is_what_the_readme_promises(task: str, exported: Export) -> None:
    path = exported(task).bundle.folder / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    facts = inspect_onnx(path)
    dims = ", ".join(TASKS[task].input_dims)
    assert facts.inputs == dict.fromkeys(("input_ids", "attention_mask", "global_attention_mask"), f"int64[{dims}]")
    assert list(facts.outputs) == [name for name, _ in TASKS[task].outputs]
    assert facts.dynamic_axes == list(TASKS[task].input_dims)
    assert facts.opsets[""] >= 20
    assert facts.ops["lat::BandedWindowAttention"] == facts.ops["lat::GlobalTokenAttention"] == 3
    assert [facts.lat_nodes[f"layer.{i}.BandedWindowAttention"]["window"] for i in range(3)] == [4, 32, 16]
    assert all(node["body"] for node in facts.lat_nodes.values())
    assert all(node["plugin_namespace"] == "lat" and node["plugin_version"] == "1" for node in facts.lat_nodes.values())


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
        torch.manual_seed(0)
        sizes = {
            "vocab_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 90,
            "pad_token_id": 1,
        }
        model = transformers.LongformerModel(transformers.LongformerConfig(**{**sizes, **config}))
        for name, parameter in model.named_parameters():
            if ("query" in name or "key" in name) and name.endswith("weight"):
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(tmp_path / "made")
        return tmp_path / "made"

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
    cases = Golden(made.bundle.folder).manifest["cases"]
    assert all(case["why_reference"] for case in cases if case["computed_by"] != "transformers")


def test_other_sizes_of_heads_layers_and_vocabulary(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    odd = make_checkpoint(
        attention_window=8, hidden_size=42, num_attention_heads=3, num_hidden_layers=1, vocab_size=51, hidden_act="relu"
    )
    made = export(ModelSpec(str(odd), "onnx", tmp_path / "out"))
    assert made.bundle.manifest["lat_nodes"] == {"BandedWindowAttention": 1, "GlobalTokenAttention": 1}


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
    bundle = exported("feature-extraction").bundle
    mutate(bundle.folder / "model.onnx", tmp_path / "wrong.onnx", MUTATIONS[name])
    golden = Golden(GOLDEN / "longformer" / "feature-extraction")
    worst = max(
        difference(
            run(tmp_path / "wrong.onnx", case.inputs)["last_hidden_state"], case.outputs["last_hidden_state"]
        ).relative_l2
        for case in golden
    )
    assert worst > 100 * RELATIVE_L2["fp32"]


def test_swapped_module_leaves_the_model_as_it_was(checkpoint: Path) -> None:
    loaded = load(ModelSpec(str(checkpoint), "onnx", Path("unused")))
    before = {name: id(parameter) for name, parameter in loaded.model.named_parameters()}
    kind = type(loaded.model.longformer)
    loaded.checkpoint.family.swapped(loaded.model, Options())
    assert {name: id(parameter) for name, parameter in loaded.model.named_parameters()} == before
    assert type(loaded.model.longformer) is kind


def test_two_exports_give_the_same_bytes(checkpoint: Path, tmp_path: Path, exported: Export) -> None:
    again = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "again", validate=False))
    first = exported("question-answering").bundle.manifest["files"]["model.onnx"]["sha256"]
    assert again.bundle.manifest["files"]["model.onnx"]["sha256"] == first
