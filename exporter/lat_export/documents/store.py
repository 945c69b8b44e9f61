"""Where answers go until all are there: a hidden folder beside the output, which outlives a kill.

    .OUTPUT.lat-run/
      lock           held by the run that is at work
      state.json     what this is the output of (digests of input and bundle, options), how many chunks have their lines
                     in `answers` and `bad`, and how long these are; replaced by rename
      answers, bad   the lines of those chunks, in the input's order
      chunk-000007   spool of a chunk at work (see `spool`)

Files are cut to what state.json says before any work goes on, so a kill at any byte leaves neither half a line nor one
twice. The output appears by one rename.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from lat_export.documents.answering import Line
from lat_export.documents.disk import append, cut, locked, read_json, replace_json, sync, writing
from lat_export.documents.spool import END, Spool, Spooled, read_spool, record
from lat_export.errors import InputError


@dataclass(frozen=True)
class State:
    """
    Attributes:
        identity: of a job; empty before there is one.
        chunks: how many are in `answers` and `bad`.
        publishing: name of the file that becomes the output, once all is done and it is only to be renamed.
    """

    identity: dict[str, Any] = field(default_factory=dict)
    chunks: int = 0
    answered: int = 0
    bad: int = 0
    answers_bytes: int = 0
    bad_bytes: int = 0
    publishing: str = ""


class Store:
    """The folder of one run; made by `open_store`.

    Attributes:
        resumed: rows that an earlier run had answered or refused.
    """

    def __init__(self, out: Path, bad_out: Path, folder: Path) -> None:
        self.out, self.bad_out, self.folder = out, bad_out, folder
        self.state = State()
        self.resumed = 0
        self._spools: dict[int, Spool] = {}

    def begin(self, identity: dict[str, Any], *, force: bool) -> None:
        """Take up what a killed run of the same identity left, or start.

        Raises:
            InputError: the folder holds an unfinished run of something else, or is damaged; or the output exists.
        """
        with writing(self.out):
            if self.state.publishing and self.state.identity != identity:
                # A run that was killed in its last step; it was whole.
                self._rename()
                self.clear()
            if not self.state.publishing:
                self.check_free(force)
            if not self.state.identity:
                self.clear()
                self._set_state(State(identity))
            elif self.state.identity != identity:
                raise _another_run(self.folder, self.state.identity, identity)
            if not self.state.publishing:
                cut(self.folder / "answers", self.state.answers_bytes)
                cut(self.folder / "bad", self.state.bad_bytes)
                self._read_spools()
        self.resumed = self.done

    def check_free(self, force: bool) -> None:
        """
        Raises:
            InputError: the output exists, and is not to be replaced.
        """
        for path in (self.out, self.bad_out):
            if path.exists() and not force:
                raise InputError(
                    "the output exists", got=path, hint="choose another --output, or add --force to replace it"
                )

    @property
    def done(self) -> int:
        """Rows that are answered or refused."""
        spooled = sum(len(spool.lines) for spool in self._spools.values())
        return self.state.answered + self.state.bad + spooled

    def is_whole(self, chunk: int) -> bool:
        return chunk < self.state.chunks or (chunk in self._spools and self._spools[chunk].whole)

    def batches_of(self, chunk: int) -> int:
        """How many batches of a chunk were answered before."""
        return self._spools[chunk].batches if chunk in self._spools else 0

    def write(self, chunk: int, batches: Iterable[list[Line]]) -> Iterator[int]:
        """Spool the rest of a chunk, and the whole chunk into its place where it is the next one.

        Returns:
            Rows of each batch when it is on disk.
        """
        with writing(self.out):
            append(self._spool(chunk), ())
        for batch in batches:
            with writing(self.out):
                append(self._spool(chunk), [record(batch)])
            yield len(batch)
        with writing(self.out):
            append(self._spool(chunk), [END])
        self._finished(chunk)

    def put(self, chunk: int, spool: bytes) -> int:
        """A chunk that was answered elsewhere; how many rows it has. One that is there already changes nothing."""
        if self.is_whole(chunk):
            return 0
        with writing(self.out):
            fresh = self.folder / "fresh"
            fresh.write_bytes(spool)
            fresh.replace(self._spool(chunk))
        return self._finished(chunk)

    def publish(self, convert: Callable[[Path, Path], None] | None) -> None:
        """Give the output its name, when every chunk is in its place.

        Args:
            convert: makes a file of another format of the lines.
        """
        with writing(self.out):
            if not self.state.publishing:
                ready = "answers"
                (self.folder / ready).touch()
                if convert is not None:
                    ready = "converted"
                    convert(self.folder / "answers", self.folder / ready)
                sync(self.folder / ready)
                self._set_state(replace(self.state, publishing=ready))
            self._rename()

    def clear(self) -> None:
        """Drop an unfinished run; what tells of it goes last."""
        for path in self.folder.iterdir():
            if path.name not in ("lock", "state.json"):
                path.unlink()
        (self.folder / "state.json").unlink(missing_ok=True)
        self.state = State()

    def _rename(self) -> None:
        bad, ready = self.folder / "bad", self.folder / self.state.publishing
        if not self.state.bad:
            self.bad_out.unlink(missing_ok=True)
        elif bad.exists():
            bad.replace(self.bad_out)
        if ready.exists():
            ready.replace(self.out)
        sync(self.out.parent)

    def _read_spools(self) -> None:
        (self.folder / "fresh").unlink(missing_ok=True)
        for path in sorted(self.folder.glob("chunk-*")):
            chunk = int(path.name.removeprefix("chunk-"))
            spool = read_spool(path)
            if chunk < self.state.chunks or not spool.batches:
                path.unlink()
                continue
            cut(path, spool.valid_bytes)
            self._spools[chunk] = spool
        self._commit()

    def _finished(self, chunk: int) -> int:
        spool = read_spool(self._spool(chunk))
        assert spool.whole, f"chunk {chunk} was not written whole"
        self._spools[chunk] = spool
        with writing(self.out):
            self._commit()
        return len(spool.lines)

    def _commit(self) -> None:
        """Chunks that are whole and next, into their place."""
        while self.is_whole(self.state.chunks):
            chunk = self.state.chunks
            spool = self._spools[chunk]
            ordered = sorted(spool.lines, key=lambda line: line.number)
            with self._spool(chunk).open("rb") as source:
                answers, bad = (
                    append(self.folder / name, _lines(source, ordered, refused), sync=True)
                    for name, refused in (("answers", False), ("bad", True))
                )
            refused = sum(line.bad for line in ordered)
            answered = self.state.answered + len(ordered) - refused
            self._set_state(State(self.state.identity, chunk + 1, answered, self.state.bad + refused, answers, bad))
            del self._spools[chunk]
            self._spool(chunk).unlink()

    def _spool(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:06d}"

    def _set_state(self, state: State) -> None:
        replace_json(self.folder / "state.json", asdict(state))
        self.state = state


@contextmanager
def open_store(out: Path, bad_out: Path, *, force: bool, restart: bool) -> Iterator[Store]:
    """The store of an output, locked. When the block ends well it is removed; else it stays for the next run.

    Args:
        force: replace an output that is there.
        restart: drop an unfinished run.
    Raises:
        InputError: the output exists, cannot be written, or another run is at work on it.
    """
    folder = out.with_name(f".{out.name}.lat-run")
    with writing(out):
        lock = locked(folder)
    store = Store(out, bad_out, folder)
    try:
        with writing(out):
            if restart:
                store.clear()
            store.state = State(**(read_json(folder / "state.json") or {}))
        if not store.state.publishing:
            store.check_free(force)
        yield store
        store.clear()
        shutil.rmtree(folder)
    except BaseException:
        if not (folder / "state.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.close()


def _another_run(folder: Path, known: dict[str, Any], identity: dict[str, Any]) -> InputError:
    differing = [name for name in {**known, **identity} if known.get(name) != identity.get(name)]
    return InputError(
        "an unfinished run of something else is there",
        got=f"{folder}; another {', '.join(differing)}",
        expected="the same input, bundle and options, to go on with it",
        hint="give what it was started with, or --restart to drop what it has done",
    )


def _lines(spool: IO[bytes], lines: Iterable[Spooled], bad: bool) -> Iterator[bytes]:
    for line in lines:
        if line.bad == bad:
            spool.seek(line.start)
            yield spool.read(line.size)
