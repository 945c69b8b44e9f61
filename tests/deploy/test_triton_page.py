"""docs/triton.md is true: its commands run, in their order, and its figures are the committed ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from deploy import triton_server

from lat_export.inference import Request, answer

PAGE = (ROOT / "docs" / "triton.md").read_text()
NO_SERVER = triton_server.why_not()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the checkout, with `lat-export` in PATH."""
    (tmp_path / "golden").symlink_to(ROOT / "golden")
    program = tmp_path / "bin" / "lat-export"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lat_export "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{Path(sys.executable).parent}", prepend=":")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(NO_SERVER is not None, reason=str(NO_SERVER))
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl, which the page asks with")
def test_from_a_checkpoint_to_an_answer(elsewhere: Path) -> None:
    """All but the ports, and where the server is, as the page has it."""
    make, serve, ask = blocks("bash")
    run(make)
    assert serve.splitlines()[0] == "make triton-server"
    program, repository = serve.splitlines()[1].split(" --model-repository=")
    assert program == "build/triton-server/bin/tritonserver"
    pytest.importorskip("tritonclient.grpc", reason="pip install 'lat-export[triton]' has clients")
    with triton_server.serving(Path(repository), elsewhere) as server:
        reply = json.loads(run(ask.replace("localhost:8000", server.http)))
        (python,) = blocks("python")
        printed = run(f"{sys.executable} - <<'END'\n{python.replace('localhost:8001', server.grpc)}END\n")
    request = Request("The keeper kept the light through the storm.", "Who kept the light?")
    answers = [json.loads(reply["outputs"][0]["data"][0]), eval(printed), answer(Path("demo/served"), request)]
    spans = [[one["answer"] for one in each["answers"]] for each in answers]
    assert len(spans[0]) == request.top_k
    assert spans[0] == spans[1] == spans[2]


def run(command: str) -> str:
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/serving.py."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import serving as module

    yield module
    for name in ("serving", "export_full_size"):
        sys.modules.pop(name, None)


def test_the_figures_are_the_committed_ones(serving: ModuleType) -> None:
    results = json.loads(serving.RESULT.read_text())
    assert serving.with_table(PAGE, results) == PAGE, "python benchmarks/serving.py --page"
    results["rows"][0]["p99_ms"] += 1
    assert serving.with_table(PAGE, results) != PAGE
