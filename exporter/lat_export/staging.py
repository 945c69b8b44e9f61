"""A folder that appears whole or not at all.

Work goes on in a hidden folder beside the wanted one, whose lock tells the living from the dead: what a killed run left
is removed by the next run for the same place, and never taken for a result.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lat_export.errors import InputError

LOCK_FILE = "lock"
FULL_OR_LOCKED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
NOT_A_PLACE = {errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


@dataclass(frozen=True)
class Staging:
    """
    Attributes:
        folder: what lies here when the block ends well becomes the result.
        scratch: removed at the end.
    """

    folder: Path
    scratch: Path


@contextlib.contextmanager
def staged(out: Path, *, replaceable: Callable[[Path], bool], force: bool) -> Iterator[Staging]:
    """Fill `Staging.folder`; it becomes `out` when the block ends without an exception, by one rename.

    Args:
        replaceable: whether an existing folder is one of ours, which `force` may replace.
    Raises:
        InputError: `out` exists and may not be replaced, or the disk does not take the files.
    """
    out = out.absolute()
    try:
        _check_free(out, replaceable, force)
        made_parents = [parent for parent in out.parents if not parent.exists()]
        root, lock = _staging_root(out)
    except OSError as error:
        raise _disk_error(error, out) from error
    try:
        staging = Staging(root / "folder", root / "scratch")
        staging.folder.mkdir()
        staging.scratch.mkdir()
        yield staging
        _check_free(out, replaceable, force)
        _publish(staging.folder, out)
    except OSError as error:
        if _is_of_ours(error, root, out):
            raise _disk_error(error, out) from error
        raise
    except Exception as error:
        # Libraries wrap a full disk in errors of their own.
        if os.strerror(errno.ENOSPC) in str(error):
            raise _disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), out) from error
        raise
    finally:
        shutil.rmtree(root, ignore_errors=True)
        lock.close()
        for parent in made_parents:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only while it is empty


def holds_only_listed(
    folder: Path, manifest: str, *, also: tuple[str, ...] = (), ignored_folder: str | None = None
) -> bool:
    """Whether a folder holds the files that `manifest` in it lists under "files", and nothing else, or nothing at all.

    Args:
        also: names beside the listed ones and the manifest.
        ignored_folder: files in folders of that name do not count.
    """
    if not folder.is_dir():
        return False
    found = {
        path.as_posix()
        for path in (file.relative_to(folder) for file in folder.rglob("*") if not file.is_dir())
        if ignored_folder not in path.parts
    }
    try:
        listed = set(json.loads((folder / manifest).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        listed = set()
    return found <= listed | {manifest, *also}


def _is_of_ours(error: OSError, root: Path, out: Path) -> bool:
    """Whether an error is about what is written here, not about something that was read."""
    if error.filename is None:
        return error.errno in FULL_OR_LOCKED
    # A copy names its source and its destination.
    paths = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
    return any(path.is_relative_to(root) or path == out for path in paths)


def _check_free(out: Path, replaceable: Callable[[Path], bool], force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise InputError("the output folder exists", got=out, hint="choose another --out, or add --force to replace it")
    if not replaceable(out):
        raise InputError(
            "--force replaces only what lat-export wrote",
            got=f"{out} is something else",
            hint="choose another --out, or remove it yourself",
        )


def _staging_root(out: Path) -> tuple[Path, IO[str]]:
    """A fresh hidden folder beside `out` with its lock held, after those of dead runs are gone.

    All this happens under a lock on the parent, so that no run sees the folder of another before it is locked.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.lat-export-"
    parent = os.open(out.parent, os.O_RDONLY)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)
        for leftover in out.parent.glob(f"{glob.escape(prefix)}*"):
            if _abandoned(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        root = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
        lock = (root / LOCK_FILE).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(parent)
    return root, lock


def _abandoned(root: Path) -> bool:
    """Nobody holds its lock, or it has none: the run that made it is dead."""
    try:
        with (root / LOCK_FILE).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _publish(folder: Path, out: Path) -> None:
    for path in folder.rglob("*"):
        runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runs else 0o644)  # some writers make their files private
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    folder.chmod(0o755)
    if out.exists():
        _exchange(folder, out)
    else:
        folder.rename(out)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step (Linux renameat2); elsewhere in two, the old one kept until the new one stands."""
    at_fdcwd, rename_exchange = -100, 2
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 and renameat2(at_fdcwd, os.fsencode(new), at_fdcwd, os.fsencode(old), rename_exchange) == 0:
        return
    aside = new.with_name("replaced")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise


def _disk_error(error: OSError, out: Path) -> Exception:
    if error.errno not in FULL_OR_LOCKED | NOT_A_PLACE:
        return error
    free = ""
    with contextlib.suppress(OSError):
        nearest = next(parent for parent in out.parents if parent.exists())
        free = f", {shutil.disk_usage(nearest).free / 2**20:.0f} MiB free"
    return InputError(
        "the output folder cannot be written",
        got=f"{error.strerror}: {out}{free}",
        expected="a writable place with room for about three times the checkpoint's size",
        hint="choose another --out; nothing was left behind",
    )
