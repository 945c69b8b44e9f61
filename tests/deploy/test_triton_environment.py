"""The environment of the real server: made once, and where it cannot be made the reason is told and kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from deploy import triton_environment, triton_server
from deploy.triton_environment import LEFT_OUT, READY, LeftOutError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `main` makes, on a machine that PyPI has no server for."""
    monkeypatch.setattr(triton_environment, "PLATFORM", ("Linux", "vax"))
    monkeypatch.setattr(sys, "argv", ["triton_environment.py", str(tmp_path / "server")])
    monkeypatch.setenv(triton_server.FOLDER_VARIABLE, str(tmp_path / "server"))
    return tmp_path / "server"


def test_the_reason_is_told_and_is_what_tests_skip_with(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(triton_server.why_not()).endswith("make triton-server")
    triton_environment.main()
    assert "Linux vax" in capsys.readouterr().err
    assert "Linux vax" in str(triton_server.why_not())
    assert [path.name for path in folder.iterdir()] == [LEFT_OUT]


def test_one_that_is_there_is_not_made_again(folder: Path) -> None:
    folder.mkdir()
    (folder / READY).write_text("\n".join(triton_environment.packages()))
    triton_environment.main()
    assert triton_server.why_not() is None


def test_one_of_other_packages_is_made_again(folder: Path) -> None:
    folder.mkdir()
    (folder / READY).write_text("\n".join([*triton_environment.packages()[:-1], "tokenizers==0.1"]))
    triton_environment.main()
    assert not (folder / READY).exists()


def test_what_fails_is_named() -> None:
    with pytest.raises(LeftOutError, match="failed: ERROR: no such wheel"):
        triton_environment.run([sys.executable, "-c", "import sys; sys.exit('a\\nERROR: no such wheel\\nb')"])
    with pytest.raises(LeftOutError, match="does not start"):
        triton_environment.demand_loads(["sh", "-c", "exit 127"], {"PATH": "/bin:/usr/bin"})
