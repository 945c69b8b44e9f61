"""How a run writes so that a kill or a full disk at any byte leaves nothing wrong behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from lat_export.errors import InputError
from lat_export.staging import FULL_OR_LOCKED, NOT_A_PLACE

BLOCK_BYTES = 1 << 20
# No such file: a folder that takes none, as /proc, or one that was removed under the run.
REFUSED = FULL_OR_LOCKED | NOT_A_PLACE | {errno.ENOENT}


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A disk that takes no more is told of, and how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        free = ""
        with suppress(OSError):
            free = f", {shutil.disk_usage(out.parent).free / 2**20:.0f} MiB free"
        raise InputError(
            "the output cannot be written",
            got=f"{error.strerror}: {out}{free}",
            expected="a writable folder with room for the output twice",
            hint="make room and give the same command again: it goes on where this one stopped; or choose another",
        ) from error


def locked(folder: Path) -> IO[str]:
    """The lock of the folder, which is made if need be; another run may just be removing it."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = (folder / "lock").open("a")
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_ino == (folder / "lock").stat().st_ino:
                return lock
        except BlockingIOError as error:
            lock.close()
            raise InputError(
                "another run is writing this output",
                got=folder.with_name(folder.name.removeprefix(".").removesuffix(".lat-run")),
                hint="wait for it, or choose another --output",
            ) from error
        except FileNotFoundError:
            pass
        lock.close()


def read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def replace_json(path: Path, data: dict[str, Any]) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(json.dumps(data, indent=1))
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def append(path: Path, pieces: Iterable[bytes], *, sync: bool = False) -> int:
    """Its size then. Without a buffer of Python's, which would raise once more when it is closed on a full disk."""
    with path.open("ab", buffering=0) as stream:
        block = b""
        for piece in pieces:
            block += piece
            if len(block) >= BLOCK_BYTES:
                write_all(stream, block)
                block = b""
        write_all(stream, block)
        if sync:
            os.fsync(stream.fileno())
        return stream.seek(0, os.SEEK_END)


def write_all(stream: RawIOBase, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[stream.write(left) or 0 :]


def cut(path: Path, size: int) -> None:
    """Drop what was written after the last state."""
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise InputError(
            "what an unfinished run left is damaged",
            got=f"{path} has {found} bytes",
            expected=f"{size} or more",
            hint="--restart drops it",
        )
    if found > size:
        os.truncate(path, size)


def sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
