"""What is served, without a server: the files of a repository alone, in a process that has no lat-export."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lat_export.deploy import Serving, deploy
from lat_export.deploy.served_sources import SERVED
from lat_export.inference import Request, answer
from lat_export.pipeline import Exported
from lat_export.validation.golden import Golden

Export = Callable[..., Exported]
CHILD = Path(__file__).with_name("served_child.py")
INVALID_ARG, INTERNAL = 3, 1
TEXT = "The keeper of the northern tower kept the light through the storm."
REQUESTS = [
    ("feature-extraction", "yoso", Request(TEXT)),
    ("fill-mask", "longformer", Request("The boats leaned on their <mask>.", top_k=2)),
    ("text-classification", "nystromformer", Request(TEXT)),
    ("multiple-choice", "longformer", Request(TEXT, choices=("It was dry.", "It was dark until the evening."))),
    ("token-classification", "yoso", Request(TEXT)),
    ("question-answering", "nystromformer", Request(TEXT, question="Who kept the light?", top_k=3)),
]


def served(folder: Path, requests: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """What a deployment answers to groups of requests."""
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
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


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
    bundle = exported(task, family=family).bundle.folder
    ((found,),) = served(deployed(bundle, tmp_path / "out"), [[of_text("m_text", request_)]])
    assert json.loads(found["outputs"]["answer"][0]) == answer(bundle, request_)


def test_goldens_alone_and_joined_and_a_bad_one_among_them(exported: Export, tmp_path: Path) -> None:
    """Joined with others, each gets its own rows; one that is refused takes nobody with it."""
    bundle = exported("question-answering").bundle
    cases = [case for case in Golden(bundle.folder) if case.rows is None]
    requests = [of_arrays("m", case.inputs) for case in cases]
    bad = json.loads(json.dumps(requests[0]))
    bad["inputs"]["input_ids"]["values"][0][0] = -1
    found = served(
        deployed(bundle.folder, tmp_path / "out"), [*([one] for one in requests), [*requests, bad, requests[0]]]
    )
    *alone, together = found
    for index, case in enumerate([*cases, None, cases[0]]):
        if case is None:
            assert together[index]["code"] == INVALID_ARG
            assert "no meaning" in together[index]["error"]
            continue
        for name, reference in case.outputs.items():
            for group in ([alone[index][0]] if index < len(alone) else []), [together[index]]:
                for one in group:
                    output = np.array(one["outputs"][name])
                    assert output.shape == reference.shape
                    assert np.linalg.norm(output - reference) <= 2e-5 * max(np.linalg.norm(reference), 1.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": [b"\xff"]}, "no text in UTF-8"),
        ({"text": [b"x"], "top_k": 0}, "top_k"),
        ({"text": [b"x"]}, "needs question"),
        ({"text": [b"keeper " * 400], "question": [b"?"]}, "longer than"),
        ({"text": [b"x"], "question": [b"?"], "choices": [b"y"]}, "takes no choices"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    fields: dict[str, Any], words: str, exported: Export, tmp_path: Path
) -> None:
    top_k = fields.pop("top_k", 1)
    inputs: dict[str, Any] = {n: {"dtype": "bytes", "values": [v.hex() for v in vs]} for n, vs in fields.items()}
    inputs["top_k"] = {"dtype": "int32", "values": [top_k]}
    folder = deployed(exported("question-answering").bundle.folder, tmp_path / "out")
    ((found,),) = served(folder, [[{"model": "m_text", "inputs": inputs}]])
    assert found["code"] == INVALID_ARG
    assert words in found["error"]


def test_nothing_served_imports_this_package(exported: Export, tmp_path: Path) -> None:
    folder = deployed(exported("question-answering").bundle.folder, tmp_path / "out")
    files = [*folder.rglob("*.py")]
    assert {path.name for path in files} >= {"model.py", "text_front.py", "answers.py", "types.py"}
    assert [path for path in files if "from lat_export" in path.read_text()] == []
    assert all("import lat_export" not in path.read_text() for path in files)
    assert (folder / "m_text" / "1" / SERVED / "__init__.py").is_file()
