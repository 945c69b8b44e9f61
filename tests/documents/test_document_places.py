"""`run --input` as a user types it: where the output may lie, which options go together, what a full disk does."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents.corpus import read_lines, rows, write_lines

from lat_export.pipeline import Exported

Export = Callable[..., Exported]
TASK = "text-classification"


@pytest.fixture
def bundle(exported: Export) -> Path:
    return exported(TASK).bundle.folder


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "in.jsonl", rows(TASK, 20))


def run(bundle: Path, *arguments: object, code: int = 0, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """
    Args:
        limit: no file may grow beyond so many bytes, as `ulimit -f` has it.
    """

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "lat_export", "run", str(bundle), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(bundle: Path, given: Path, out: Path, *more: object, code: int = 2) -> str:
    """The error; nothing may have changed."""
    before = sorted(given.parent.rglob("*"))
    done = run(bundle, "--input", given, "--output", out, *more, code=code)
    assert done.stdout == ""
    assert sorted(given.parent.rglob("*")) == before
    return done.stderr


def test_what_is_printed(bundle: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = run(bundle, "--input", given, "--output", out, "--keep", "id", "--top-k", "1")
    assert done.stdout.startswith(f"{out}: 20 answers in ")
    assert done.stderr == "20 documents\n"
    first = read_lines(out)[0]
    assert list(first) == ["row", "id", "labels"]
    assert (first["row"], first["id"], len(first["labels"])) == (1, "document 0", 1)
    with given.open("a") as stream:
        stream.write("?\n")
    assert "the output exists" in refused(bundle, given, out)
    done = run(bundle, "--input", given, "--output", out, "--force", "--json", code=1)
    summary = json.loads(done.stdout)
    assert (summary["answered"], summary["bad"]) == (20, 1)
    assert summary["bad_output"] == f"{out}.bad.jsonl"
    done = run(bundle, "--input", write_lines(given, rows(TASK, 2)), "--output", out, "--force")
    assert not Path(f"{out}.bad.jsonl").exists()  # it would tell of rows of another run


def test_places_that_cannot_be(bundle: Path, given: Path, tmp_path: Path) -> None:
    assert "no folder for the output" in refused(bundle, given, tmp_path / "none" / "out.jsonl")
    assert "no folder for the output" in refused(bundle, given, given / "out.jsonl")
    assert "the output is the input" in refused(bundle, given, given, "--force")
    (tmp_path / "link.jsonl").hardlink_to(given)
    assert "the output is the input" in refused(bundle, given, tmp_path / "link.jsonl", "--force")
    (tmp_path / "folder.jsonl").mkdir()
    assert "the output is no file" in refused(bundle, given, tmp_path / "folder.jsonl", "--force")
    assert "--output of an unknown format" in refused(bundle, given, tmp_path / "out.csv")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "no regular file" in refused(bundle, tmp_path / "pipe.jsonl", tmp_path / "out.jsonl")
    assert "no such file" in refused(bundle, tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    assert "not a bundle" in refused(tmp_path, given, tmp_path / "out.jsonl")


def test_a_folder_that_takes_no_file(bundle: Path, given: Path) -> None:
    """/proc takes none, not even root's."""
    assert "the output cannot be written" in refused(bundle, given, Path("/proc/out.jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--text", "a", "--output", "o.jsonl"), "--output goes with --input"),
        (("--text", "a", "--ray", "local"), "--ray goes with --input"),
        (("--input", "i.jsonl"), "--input needs --output"),
        (("--input", "i.jsonl", "--output", "o.jsonl", "--question", "q"), "--question does not go with --input"),
        (("--input", "i.jsonl", "--output", "o.jsonl", "--workers", "2"), "--workers goes with --ray"),
        ((), "Give --text, or --input and --output"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], words: str, bundle: Path) -> None:
    assert words in run(bundle, *options, code=2).stderr


def test_a_kept_field_hides_nothing(bundle: Path, given: Path, tmp_path: Path) -> None:
    assert "has the name of another" in refused(bundle, given, tmp_path / "out.jsonl", "--keep", "labels")


@pytest.mark.parametrize("limit", [300, 1200])
def test_a_run_that_meets_a_full_disk_goes_on_later(limit: int, bundle: Path, given: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    run(bundle, "--input", given, "--output", whole, "--max-batch", "3")
    assert whole.stat().st_size > limit
    arguments = ("--input", given, "--output", out, "--max-batch", "3")
    done = run(bundle, *arguments, code=2, limit=limit)
    assert "the output cannot be written" in done.stderr
    assert "File too large" in done.stderr
    assert "the same command again" in done.stderr
    assert not out.exists()
    run(bundle, *arguments)
    assert out.read_bytes() == whole.read_bytes()


def test_a_second_run_on_one_output_waits_its_turn(bundle: Path, given: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".out.jsonl.lat-run"
    folder.mkdir()
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = refused(bundle, given, tmp_path / "out.jsonl")
    assert "another run is writing this output" in error
    run(bundle, "--input", given, "--output", tmp_path / "out.jsonl")
    assert not folder.exists()
