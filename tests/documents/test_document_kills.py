"""A run that is killed, wherever, and given again: the bytes of one that was not."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents.corpus import read_lines, rows, write_lines
from documents.played import killed_at, play

from lat_export.digest import file_sha256
from lat_export.documents import Job, Progress, run_documents
from lat_export.documents.spool import read_spool
from lat_export.errors import InputError
from lat_export.pipeline import Exported

Export = Callable[..., Exported]
TASK = "text-classification"


@pytest.fixture
def bundle(exported: Export) -> Path:
    return exported(TASK).bundle.folder


def documents(path: Path, count: int = 47) -> Path:
    """With a bad row in every chunk of ten."""
    lines = [json.dumps(row) for row in rows(TASK, count)]
    lines[5::10] = ["{"] * len(lines[5::10])
    path.write_text("\n".join(lines))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def uninterrupted(bundle: Path, given: Path, tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / "whole").mkdir()
    summary = run_documents(Job(bundle, given, tmp_path / "whole" / "out.jsonl"))
    assert summary.bad == 5
    found = files(tmp_path / "whole")
    assert set(found) == {"out.jsonl", "out.jsonl.bad.jsonl"}
    return found


def test_a_kill_at_every_step_loses_and_doubles_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch)
    given = documents(tmp_path / "in.jsonl")
    wanted = uninterrupted(bundle, given, tmp_path)
    step = 0
    while True:
        step += 1
        folder = tmp_path / f"killed at {step}"
        folder.mkdir()
        job = Job(bundle, given, folder / "out.jsonl")
        if not killed_at(step, lambda job=job: run_documents(job)):  # type: ignore[misc]
            break
        if not job.output.exists():
            run_documents(job)
        elif (folder / ".out.jsonl.lat-run" / "state.json").exists():
            run_documents(job)  # it was killed after the last rename
        assert files(folder) == wanted, f"killed at step {step}"
        assert not (folder / ".out.jsonl.lat-run" / "state.json").exists()
    assert step > 50  # 5 chunks of 3 batches, each with its writes, its state and its renames


def test_a_kill_at_every_second_of_many_runs(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed again and again, each time a few steps later, until it is done."""
    play(monkeypatch)
    given = documents(tmp_path / "in.jsonl")
    wanted = uninterrupted(bundle, given, tmp_path)
    (tmp_path / "killed").mkdir()
    job = Job(bundle, given, tmp_path / "killed" / "out.jsonl")
    kills = 0
    while killed_at(7 + kills % 5, lambda: run_documents(job)):
        kills += 1
        assert kills < 200
    assert kills > 5
    assert files(tmp_path / "killed") == wanted


def test_what_was_answered_is_not_answered_again(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)
    given = documents(tmp_path / "in.jsonl")
    job = Job(bundle, given, tmp_path / "out.jsonl")

    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done >= 18:  # in the second chunk, after two of its three batches
            raise StopError

    with pytest.raises(StopError):
        run_documents(job, stop)
    told: list[Progress] = []
    summary = run_documents(job, told.append)
    assert told[0] == Progress(18, 18, 47)
    assert (summary.resumed, summary.answered, summary.bad) == (18, 42, 5)
    assert [progress.done for progress in told] == [18, 20, 24, 28, 30, 34, 38, 40, 44, 47]


def test_a_killed_command_goes_on(bundle: Path, tmp_path: Path) -> None:
    """The real command and model, killed in the middle of its work."""
    given = write_lines(tmp_path / "in.jsonl", rows(TASK, 3000))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"

    def command(output: Path) -> list[str]:
        paths = ["--input", str(given), "--output", str(output), "--max-batch", "4"]
        return [sys.executable, "-m", "lat_export", "run", str(bundle), *paths]

    subprocess.run(command(whole), check=True, capture_output=True)
    spools = tmp_path / ".out.jsonl.lat-run"
    running = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(spools.glob("chunk-000001")):
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not out.exists()
    done = subprocess.run([*command(out), "--json"], check=True, capture_output=True, text=True)
    assert 1024 <= json.loads(done.stdout)["resumed"] < 3000
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([given, whole, out])


def changed_input(job: Job) -> Job:
    job.input.write_text(job.input.read_text().replace("1940", "1941"))
    return job


def changed_option(job: Job) -> Job:
    return Job(job.bundle, job.input, job.output, top_k=2)


@pytest.mark.parametrize(("change", "named"), [(changed_input, "input"), (changed_option, "--top-k")])
def test_work_on_something_else_is_not_taken_up(
    change: Callable[[Job], Job], named: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch)
    job = Job(bundle, documents(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    assert killed_at(20, lambda: run_documents(job))
    other = change(job)
    with pytest.raises(InputError, match="an unfinished run of something else is there") as raised:
        run_documents(other)
    assert f"another {named}" in str(raised.value)
    assert "--restart" in str(raised.value)
    again = run_documents(Job(other.bundle, other.input, other.output, other.top_k, restart=True))
    assert again.resumed == 0
    assert len(read_lines(job.output)) == 42


def test_another_bundle_at_the_same_place_is_noticed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch)
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    job = Job(copy, documents(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    assert killed_at(20, lambda: run_documents(job))
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    (copy / "manifest.json.sha256").write_text(f"{file_sha256(manifest)}  manifest.json\n")
    with pytest.raises(InputError, match="another bundle"):
        run_documents(job)


def test_an_input_that_changes_under_the_run_is_noticed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch)
    job = Job(bundle, documents(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")

    def edit(progress: Progress) -> None:
        if progress.done == 20:
            changed_input(job)

    with pytest.raises(InputError, match="the input changes while it is read"):
        run_documents(job, edit)


def test_a_spool_that_is_cut_anywhere_gives_whole_batches(tmp_path: Path) -> None:
    from lat_export.documents.answering import Line
    from lat_export.documents.spool import whole_spool

    batches = [[Line(3, b'{"a": 1}\n', False), Line(1, b"{}\n", True)], [Line(2, b"[]\n", False)]]
    whole = whole_spool(batches)
    path = tmp_path / "chunk"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        spool = read_spool(path)
        assert not spool.whole
        assert len(spool.lines) == (0, 2, 3)[spool.batches]
    path.write_bytes(whole)
    assert read_spool(path).whole
    assert [line.number for line in read_spool(path).lines] == [3, 1, 2]
    flipped = whole.replace(b'"a": 1', b'"a": 2')
    path.write_bytes(flipped)
    assert read_spool(path).batches == 0


def test_two_runs_at_once(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)
    job = Job(bundle, documents(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    seen: list[Any] = []

    def second(progress: Progress) -> None:
        if progress.done == 20:
            with pytest.raises(InputError, match="another run is writing this output") as raised:
                run_documents(job)
            seen.append(raised)

    assert run_documents(job, second).answered == 42
    assert seen
