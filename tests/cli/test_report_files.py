"""`lat-export validate --html --report`, and how a long report looks in a terminal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import lat_export

from lat_export.console import MANY_ROWS, print_report
from lat_export.errors import InputError
from lat_export.pipeline import Exported
from lat_export.validation import report_file
from lat_export.validation.report import CaseFigures, Repeated, Report, Row, SubjectReport
from lat_export.validation.report_html import report_html

Export = Callable[..., Exported]


def validate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return lat_export("validate", *arguments)


def test_validate_writes_both_forms(exported: Export, tmp_path: Path) -> None:
    folder = exported("question-answering").bundle.folder
    page, data = tmp_path / "page.html", tmp_path / "report.json"
    page.write_text("of yesterday")
    done = validate(folder, "--html", page, "--report", data, "--repeat", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(data.read_text())
    assert found["verdict"] == "passed"
    assert page.read_text(encoding="utf-8") == report_html(found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "report.json"]
    assert "2 runs of every case: the same bits" in done.stdout
    assert "span agreement: at least 1.0000 in every case" in done.stdout
    assert "max ulp" in done.stdout


def test_a_place_that_cannot_be_written_is_told_before_the_work(exported: Export, tmp_path: Path) -> None:
    folder = exported("question-answering").bundle.folder
    for place, word in (
        (tmp_path / "missing" / "page.html", "No such file or directory"),
        (tmp_path, "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (folder / "report.html", "--html lies in the bundle"),
    ):
        done = validate(folder, "--html", place)
        assert done.returncode == 2, place
        assert word in done.stderr
        assert "onnxruntime" not in done.stderr  # nothing ran
    assert list(tmp_path.iterdir()) == []


def test_two_reports_need_two_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the same file"):
        report_file.demand_places({"--html": tmp_path / "x", "--report": tmp_path / "." / "x"}, tmp_path / "bundle")


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str, **_: Any) -> int:
        self.open("w").close()
        raise OSError(28, "No space left on device")

    (tmp_path / "report.json").write_text("of yesterday")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left on device"):
        report_file.write_json(tmp_path / "report.json", Report(()))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of yesterday"]


def row(index: int, verdict: str = "passed") -> Row:
    return Row(f"case {index:03d}", "logits", 1.0, 0.5, index * 1e-8, 1.0, 7.0, 0, 0, (), 1e-5, verdict)


def printed(capsys: pytest.CaptureFixture[str], rows: list[Row], **more: Any) -> str:
    print_report(Report((SubjectReport("model.onnx", tuple(rows), **more),)))
    return capsys.readouterr().out


def test_a_short_table_has_all_rows_failures_first(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(index, "failed" if index in (7, 9) else "passed") for index in range(MANY_ROWS)]
    lines = [line for line in printed(capsys, rows).splitlines() if line.startswith("logits")]
    assert len(lines) == MANY_ROWS
    assert [line.split()[2] for line in lines[:4]] == ["009", "007", "000", "001"]


def test_a_long_table_has_the_failed_and_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(index, "failed" if index == 7 else "passed") for index in range(MANY_ROWS + 1)]
    text = printed(capsys, rows, repeated=Repeated(2, ("case 003",)), figures=(CaseFigures("x", {"agreement": 0.25}),))
    numbers = [line.split()[2] for line in text.splitlines() if line.startswith("logits")]
    assert numbers == ["007", *(f"{index:03d}" for index in range(40, 30, -1))]
    assert "30 more rows passed: report.json has all" in text
    assert "agreement: at least 0.2500 in every case" in text
    assert "2 runs of every case: other bits in\n  case 003\n" in text
    assert "other bits when run again" in text


def test_a_narrow_terminal_keeps_what_is_judged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "p99 abs" in printed(capsys, [row(1)])
    monkeypatch.setattr("lat_export.console.terminal.PIPED_WIDTH", 85)
    text = printed(capsys, [row(1)])
    assert "p99 abs" not in text
    assert "relative L2" in text
