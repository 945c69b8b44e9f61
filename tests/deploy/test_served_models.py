"""What is served, without a server: the files of a repository alone, in a process that has no lat-export."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy.repositories import changed_bundle

from lat_export.deploy import Serving, deploy
from lat_export.deploy.served_sources import SERVED
from lat_export.inference import Request, answer
from lat_export.pipeline import Exported
from lat_export.validation.golden import Golden

Export = Callable[..., Exported]
CHILD = Path(__file__).with_name("served_child.py")
INVALID_ARG = 3
GLOBALS = "global_attention_mask"
TEXT = "The keeper of the northern tower kept the light through the storm."
# The models that other tests export too.
REQUESTS = [
    ("feature-extraction", "longformer", Request(TEXT)),
    ("fill-mask", "longformer", Request("The boats leaned on their <mask>.", top_k=2)),
    ("text-classification", "longformer", Request(TEXT)),
    ("multiple-choice", "yoso", Request(TEXT, choices=("It was dry.", "It was dark until the evening."))),
    ("token-classification", "nystromformer", Request(TEXT)),
    ("question-answering", "longformer", Request(TEXT, question="Who kept the light?", top_k=3)),
]
REFUSALS: list[tuple[dict[str, list[bytes]], int, str]] = [
    ({"text": [b"\xff"]}, 1, "no text in UTF-8"),
    ({"text": [b"x"]}, 0, "top_k"),
    ({"text": [b"x"]}, 1, "needs question"),
    ({"text": [b"keeper " * 400], "question": [b"?"]}, 1, "longer than"),
    ({"text": [b"x"], "question": [b"?"], "choices": [b"y"]}, 1, "takes no choices"),
]


Answers = list[list[dict[str, Any]]]


def served(folder: Path, requests: list[list[dict[str, Any]]]) -> tuple[Answers, list[int]]:
    """What a deployment answers to groups of requests, and how often each group ran onnxruntime."""
    models = {path.parent.name: str(path.parent / "1") for path in folder.glob("*/config.pbtxt")}
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        input=json.dumps({"models": models, "requests": requests}),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["answers"], found["runs"]


def of_arrays(model: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {"model": model, "inputs": {n: {"dtype": str(a.dtype), "values": a.tolist()} for n, a in arrays.items()}}


def of_text(model: str, request: Request) -> dict[str, Any]:
    fields = {"text": (request.text,), "choices": request.choices, "question": (request.question,)}
    inputs: dict[str, Any] = {
        name: {"dtype": "bytes", "values": [value.encode().hex() for value in values if value is not None]}
        for name, values in fields.items()
        if values and values[0] is not None
    }
    inputs["top_k"] = {"dtype": "int32", "values": [request.top_k]}
    return {"model": model, "inputs": inputs}


def deployed(bundle: Path, out: Path, **options: Any) -> Path:
    return deploy(bundle, "triton", Serving(out, name="m", backend="python", **options)).folder


@pytest.mark.parametrize(("task", "family", "request_"), REQUESTS, ids=[row[0] for row in REQUESTS])
def test_text_is_answered_as_by_run(
    task: str, family: str, request_: Request, exported: Export, tmp_path: Path
) -> None:
    """And so is the request that the README has, whatever it says."""
    bundle = exported(task, family=family).bundle.folder
    folder = deployed(bundle, tmp_path / "out")
    ((found,), (shown,)), _ = served(folder, [[of_text("m_text", request_)], [of_readme(folder)]])
    assert json.loads(found["outputs"]["answer"][0]) == answer(bundle, request_)
    assert json.loads(shown["outputs"]["answer"][0])


def of_readme(folder: Path) -> dict[str, Any]:
    (body,) = re.findall(r"/v2/models/m_text/infer -d '(.*)'", (folder / "README.md").read_text())
    given = {one["name"]: [value.encode().hex() for value in one["data"]] for one in json.loads(body)["inputs"]}
    return {"model": "m_text", "inputs": {n: {"dtype": "bytes", "values": values} for n, values in given.items()}}


def test_the_readme_has_the_mask_of_the_checkpoint(exported: Export, tmp_path: Path) -> None:
    source = exported("fill-mask").bundle.folder
    name = "tokenizer/tokenizer.json"
    words = {name: (source / name).read_bytes().replace(b"<mask>", b"[MASK]")}
    folder = deployed(changed_bundle(source, tmp_path / "bundle", {}, words), tmp_path / "out")
    assert bytes.fromhex(of_readme(folder)["inputs"]["text"]["values"][0]) == b"A [MASK]."


def test_goldens_are_answered(exported: Export, tmp_path: Path) -> None:
    bundle = exported("question-answering").bundle
    cases = [case for case in Golden(bundle.folder) if case.rows is None]
    found, runs = served(deployed(bundle.folder, tmp_path / "out"), [[of_arrays("m", case.inputs)] for case in cases])
    assert runs == [1] * len(cases)
    for case, (one,) in zip(cases, found, strict=True):
        assert one["outputs"].keys() == case.outputs.keys()
        for name, reference in case.outputs.items():
            assert_close(one["outputs"][name], reference)


def test_joined_each_gets_its_own_rows_and_a_bad_one_takes_nobody_with_it(exported: Export, tmp_path: Path) -> None:
    """Requests of one, two and three rows; and one of another length, which has a run of its own."""
    bundle = exported("question-answering").bundle
    draw = np.random.default_rng(0)

    def request(rows: int, tokens: int) -> dict[str, Any]:
        shape = (rows, tokens)
        ids = draw.integers(5, 300, shape)
        return of_arrays("m", {"input_ids": ids, "attention_mask": np.ones_like(ids), GLOBALS: (ids % 7 == 0) * 1})

    requests = [request(1, 16), request(2, 16), request(1, 24), request(3, 16)]
    bad = json.loads(json.dumps(requests[0]))
    bad["inputs"]["input_ids"]["values"][0][0] = -1
    found, runs = served(
        deployed(bundle.folder, tmp_path / "out"), [*([one] for one in requests), [requests[0], bad, *requests[1:]]]
    )
    *alone, (first, refused, *others) = found
    assert runs == [1, 1, 1, 1, 2]
    assert refused["code"] == INVALID_ARG
    assert "no meaning" in refused["error"]
    for one, (wanted,) in zip([first, *others], alone, strict=True):
        assert one["outputs"].keys() == wanted["outputs"].keys()
        for name in wanted["outputs"]:
            assert_close(one["outputs"][name], np.array(wanted["outputs"][name]))


def assert_close(found: Any, wanted: np.ndarray) -> None:
    output = np.array(found)
    assert output.shape == wanted.shape
    assert np.linalg.norm(output - wanted) <= 2e-5 * max(np.linalg.norm(wanted), 1.0)


def test_requests_that_do_not_fit_are_refused(exported: Export, tmp_path: Path) -> None:
    requests = []
    for fields, top_k, _ in REFUSALS:
        inputs: dict[str, Any] = {n: {"dtype": "bytes", "values": [v.hex() for v in vs]} for n, vs in fields.items()}
        requests.append({"model": "m_text", "inputs": {**inputs, "top_k": {"dtype": "int32", "values": [top_k]}}})
    folder = deployed(exported("question-answering").bundle.folder, tmp_path / "out")
    (found,), _ = served(folder, [requests])
    for one, (_, _, words) in zip(found, REFUSALS, strict=True):
        assert one["code"] == INVALID_ARG
        assert words in one["error"]


def test_nothing_served_imports_this_package(exported: Export, tmp_path: Path) -> None:
    folder = deployed(exported("question-answering").bundle.folder, tmp_path / "out")
    files = [*folder.rglob("*.py")]
    assert {path.name for path in files} >= {"model.py", "text_front.py", "answers.py", "types.py"}
    assert [path for path in files if "from lat_export" in path.read_text()] == []
    assert all("import lat_export" not in path.read_text() for path in files)
    assert (folder / "m_text" / "1" / SERVED / "__init__.py").is_file()
