"""Every family and every head: exported graphs against the committed goldens and against the ONNX standard."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from conftest import FAMILY_TASKS, GOLDEN

from lat_export.families import FAMILIES
from lat_export.inspection import inspect_onnx
from lat_export.pipeline import Exported
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.tasks import TASKS
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden, take_rows
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
