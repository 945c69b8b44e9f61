"""Every family and every head: exported graphs against the committed goldens and against the ONNX standard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from conftest import FAMILY_TASKS, GOLDEN

from lat_export.families import FAMILIES
from lat_export.inspection import inspect_onnx
from lat_export.pipeline import Exported, export
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.tasks import TASKS
from lat_export.types import OPTIONAL_INPUTS, OPTIONAL_OUTPUTS, ModelSpec
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden, take_rows
from lat_export.validation.report import PASSED
from lat_export.validation.tolerance import RELATIVE_L2

Export = Callable[..., Exported]


def test_every_family_has_a_golden_of_every_task() -> None:
    assert sorted((family, task) for family in FAMILIES for task in TASKS) == FAMILY_TASKS


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_export_matches_the_committed_golden(family: str, task: str, exported: Export) -> None:
    """The goldens were made at another time: by transformers' own modules wherever they run."""
    model = exported(task, family=family).bundle.folder / "model.onnx"
    golden = Golden(GOLDEN / family / task)
    assert any(case.computed_by == "transformers" for case in golden)
    with open_runner(model, golden.signature) as run:
        for case in golden:
            outputs = take_rows(run(case.inputs), case.rows, golden.signature)
            assert set(outputs) == set(case.outputs)
            for name, reference in case.outputs.items():
                assert difference(outputs[name], reference).relative_l2 <= RELATIVE_L2["fp32"], (case.case.name, name)


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS)
def test_graph_is_what_the_readme_promises(family: str, task: str, exported: Export) -> None:
    bundle = exported(task, family=family).bundle
    path = bundle.folder / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    facts = inspect_onnx(path)
    dims = ", ".join(TASKS[task].input_dims)
    names = ("input_ids", "attention_mask", *FAMILIES[family].extra_inputs)
    assert facts.inputs == dict.fromkeys(names, f"int64[{dims}]")
    wanted = [name for name, _ in TASKS[task].outputs if FAMILIES[family].has_pooler or name != "pooler_output"]
    assert list(facts.outputs) == wanted
    assert facts.dynamic_axes == list(TASKS[task].input_dims)
    assert facts.opsets[""] >= 20
    assert {op: count for op, count in facts.ops.items() if op.startswith("lat::")} == {
        f"lat::{op}": count for op, count in bundle.manifest["lat_nodes"].items()
    }
    assert all(node["body"] for node in facts.lat_nodes.values())
    assert all(node["plugin_namespace"] == "lat" and node["plugin_version"] == "1" for node in facts.lat_nodes.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", ["fill-mask", "multiple-choice"])
def test_optional_inputs_and_outputs(family: str, task: str, tmp_path: Path) -> None:
    """token_type_ids, position_ids and embeddings in, states and attentions out, all as transformers has them."""
    checkpoint = str(GOLDEN / family / task / "checkpoint")
    spec = ModelSpec(checkpoint, "onnx", tmp_path / "out", inputs=OPTIONAL_INPUTS, outputs=OPTIONAL_OUTPUTS)
    made = export(spec)
    signature = made.bundle.signature
    names = ["inputs_embeds", "attention_mask", *FAMILIES[family].extra_inputs, "token_type_ids", "position_ids"]
    assert [tensor.name for tensor in signature.inputs] == names
    states = [tensor for tensor in signature.outputs if tensor.name.startswith("hidden_states.")]
    rows = "*".join(TASKS[task].input_dims[:-1])
    assert [(state.name, state.dims) for state in states] == [
        (f"hidden_states.{index}", (rows, "sequence", 32)) for index in range(4)
    ]
    assert made.report is not None
    assert made.report.subjects[0].verdict == PASSED
    compared = {(row.output, row.reference) for row in made.report.subjects[0].rows}
    attentions = {tensor.name: tensor.dims for tensor in signature.outputs if "attentions." in tensor.name}
    by_head = (rows, 2, "sequence")
    assert attentions == {
        "longformer": {
            f"attentions.{index}": (*by_head, f"globals+{window + 1}") for index, window in enumerate((8, 64, 32))
        }
        | {f"global_attentions.{index}": (*by_head, "globals") for index in range(3)},
        "yoso": {f"attentions.{index}": (rows, "sequence", 32) for index in range(3)},
        "nystromformer": {f"attentions.{index}": (*by_head, 8) for index in range(3)},
    }.get(family, attentions)
    assert {(name, "transformers") for name in (*attentions, *(state.name for state in states))} <= compared
    facts = inspect_onnx(made.bundle.folder / "model.onnx")
    assert all(facts.outputs[name] == f"float[{', '.join(map(str, dims))}]" for name, dims in attentions.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_token_types_and_positions_beside_input_ids(family: str, tmp_path: Path) -> None:
    checkpoint = str(GOLDEN / family / "question-answering" / "checkpoint")
    made = export(ModelSpec(checkpoint, "trt-rtx", tmp_path / "out", inputs=("position_ids", "token_type_ids")))
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects[:2]] == [PASSED, PASSED]
    bounds = {tensor.name: tensor.below for tensor in made.bundle.signature.inputs}
    assert bounds["position_ids"] == {"longformer": 258}.get(family, 98)
