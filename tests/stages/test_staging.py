"""A bundle appears whole or not at all, whatever kills the run."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import GOLDEN

from lat_export.errors import InputError
from lat_export.stages.bundle import is_bundle, read_bundle
from lat_export.staging import LOCK_FILE, staged

CHECKPOINT = GOLDEN / "longformer" / "text-classification" / "checkpoint"


def always(_: Path) -> bool:
    return True


def write(out: Path, text: str, *, force: bool = False) -> None:
    with staged(out, replaceable=always, force=force) as staging:
        (staging.folder / "file").write_text(text)
        (staging.scratch / "rubbish").write_text(text)


def test_folder_appears_with_what_was_put_in_it(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "out", "new")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == ["file"]


def test_nothing_stays_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "out", replaceable=always, force=False) as staging:
        (staging.folder / "file").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_a_file_is_copied_is_told(tmp_path: Path) -> None:
    given, out = tmp_path / "given", tmp_path / "to" / "out"
    given.write_text("tokens")
    with pytest.raises(InputError, match="cannot be written"), staged(out, replaceable=always, force=False) as staging:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given), None, str(staging.folder / "given"))
    assert list(tmp_path.iterdir()) == [given]


def test_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")
    with pytest.raises(ZeroDivisionError), staged(out, replaceable=always, force=True):
        assert (out / "file").read_text() == "old"
        raise ZeroDivisionError
    assert (out / "file").read_text() == "old"
    write(out, "new", force=True)
    assert (out / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_existing_folder_needs_force_and_must_be_ours(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(InputError, match="exists"):
        write(tmp_path / "out", "new")
    with (
        pytest.raises(InputError, match="only what lat-export wrote"),
        staged(tmp_path / "out", replaceable=lambda _: False, force=True),
    ):
        pass


def test_folder_made_by_another_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="exists"), staged(out, replaceable=always, force=False):
        out.mkdir()
        (out / "theirs").write_text("")
    assert (out / "theirs").exists()


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = tmp_path / ".out.lat-export-dead"
    dead.mkdir()
    (dead / LOCK_FILE).write_text("")
    with staged(tmp_path / "out", replaceable=always, force=False) as living:
        assert not dead.exists()
        write(tmp_path / "out2", "other place")
        with staged(tmp_path / "out", replaceable=always, force=True) as second:
            assert living.folder.is_dir()
            assert second.folder != living.folder
        (tmp_path / "out").rename(tmp_path / "moved away")
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("name", ["out", "a[1]", "a*"])
def test_leftover_without_a_lock_goes(name: str, tmp_path: Path) -> None:
    """A run killed before it took its lock; names that are patterns too."""
    (tmp_path / f".{name}.lat-export-dead").mkdir()
    write(tmp_path / name, "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def command(out: Path) -> list[str]:
    words = ["-m", "lat_export", "model", str(CHECKPOINT), "--to", "onnx", "--out", str(out), "--force"]
    return [sys.executable, *words]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A bundle, and the seconds that its export took."""
    out = tmp_path_factory.mktemp("whole") / "out"
    started = time.perf_counter()
    subprocess.run(command(out), capture_output=True, check=True)
    return out, time.perf_counter() - started


@pytest.mark.parametrize("seed", range(4))
def test_kill_at_any_moment_leaves_no_half_bundle(seed: int, whole: tuple[Path, float], tmp_path: Path) -> None:
    """SIGKILL to the whole process group somewhere in an export; then the next one, to its end."""
    made, whole_run_s = whole
    out = Path(shutil.copytree(made, tmp_path / "out"))
    before = read_bundle(out).manifest
    victim = subprocess.Popen(
        command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    # Later kills are the ones with something half-made to leave.
    time.sleep(whole_run_s * random.Random(seed).uniform(0.5, 1.0))
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert read_bundle(out).manifest["files"].keys() == before["files"].keys()
    leftovers = [path for path in tmp_path.iterdir() if path != out]
    assert not any(is_bundle(path) for path in leftovers)
    with staged(out, replaceable=is_bundle, force=True) as staging:
        shutil.copytree(made, staging.folder, dirs_exist_ok=True)
    assert list(tmp_path.iterdir()) == [out]
    read_bundle(out)
