"""Pages of Markdown, and their code: what is run of it, and how.

In a page of docs/, in its order and in one temporary folder:

- ```bash: each command is run; it has to end with 0. What it prints is kept for the next block.
- ```text behind one: every line stands in what was printed, in this order; `...` stands for anything.
- ```python: executed, in one namespace for the page.
- Any block with a `title="file"` becomes that file.

Comments say the rest: `<!-- not run: WHY -->` above a block; `<!-- before: COMMAND -->`, what another page has run;
`<!-- in a copy of the package -->`, for a page that adds files to it. What stands between `<!-- begin: NAME -->` and
`<!-- end: NAME -->` is written by a program, and another test compares it.

An export takes seconds, so that one which several pages have in the same words is run by the first of them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import ROOT

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: (?P<why>[^>]+?) -->\s*\Z")
BEFORE = re.compile(r"<!-- before: (?P<command>[^>]+?) -->")
EXPORT = re.compile(r"lat-export model golden/\S+ .*--out (?P<out>\S+)")
IN_A_COPY = "<!-- in a copy of the package -->"
GENERATED = re.compile(r"<!-- begin: (?P<name>[^>]+?) -->.*?<!-- end: (?P=name) -->", re.DOTALL)
# What only a shell does.
SHELL = re.compile(r"[|<>&;$`*]")


@dataclass(frozen=True)
class Block:
    """
    Attributes:
        title: file that it becomes.
        why_not: why it is not run.
        line: of the page.
    """

    language: str
    text: str
    line: int
    title: str | None = None
    why_not: str | None = None


def blocks(page: str) -> list[Block]:
    """Those of a page that no program writes."""
    page = GENERATED.sub(lambda found: "\n" * found[0].count("\n"), page)
    return list(_blocks(page))


def _blocks(page: str) -> Iterator[Block]:
    for found in FENCE.finditer(page):
        language, _, rest = found["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        why_not = NOT_RUN.search(page[: found.start()])
        yield Block(
            language,
            found["text"],
            page[: found.start()].count("\n") + 1,
            title and title[1],
            why_not and why_not["why"],
        )


def commands(text: str) -> list[str]:
    """Lines of a block of bash, those that go on in the next one joined."""
    lines = (line.strip() for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines())
    return [line for line in lines if line and line[0] != "#"]


def words_of(command: str) -> list[str] | None:
    """How a process runs a command of ours here; None of another's."""
    words = shlex.split(command)
    if words[0] == "lat-export":
        return [sys.executable, "-m", "lat_export", *words[1:]]
    if words[0] == "polygraphy":
        return [str(Path(sys.executable).with_name("polygraphy")), *words[1:]]
    return ["sh", "-c", command] if words[0] == "echo" else None


class PageError(AssertionError):
    """A block of a page is not true."""


@dataclass
class Exports:
    """What exports printed and wrote, by their commands.

    Attributes:
        folder: where their results are kept.
    """

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, command: str, place: Path, run: Callable[[], str]) -> str:
        """Run it, or lay its result at `place`."""
        if command not in self.printed:
            self.printed[command] = run()
            shutil.copytree(place, self._kept(command))
        else:
            shutil.copytree(self._kept(command), place)
        return self.printed[command]

    def _kept(self, command: str) -> Path:
        return self.folder / str(list(self.printed).index(command))


class Run:
    """A page, run in a folder."""

    def __init__(self, page: Path, folder: Path, exports: Exports) -> None:
        self.page, self.folder, self.exports = page, folder, exports
        self.text = page.read_text()
        self.printed: str | None = None
        self.names: dict[str, Any] = {"__name__": "__page__"}
        (folder / "golden").symlink_to(ROOT / "golden")
        self.source = ROOT / "exporter"
        self.in_a_copy = IN_A_COPY in self.text
        if self.in_a_copy:
            self.source = folder / "exporter"
            shutil.copytree(
                ROOT / "exporter" / "lat_export",
                self.source / "lat_export",
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        programs = folder / ".programs"
        programs.mkdir()
        (programs / "lat-export").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lat_export "$@"\n')
        (programs / "lat-export").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self.source), os.environ.get("PYTHONPATH")))),
        }

    def all(self) -> tuple[int, list[str]]:
        """Every block; how many were run, and why the others were not."""
        ran, reasons = 0, []
        for before in BEFORE.finditer(self.text):
            self.command(before["command"])
        for block in blocks(self.text):
            if block.why_not:
                reasons.append(f"{self.page.name}:{block.line}: {block.why_not}")
                self.printed = None
                continue
            try:
                self.one(block)
            except Exception as error:
                raise PageError(f"{self.page}:{block.line}: {error}") from error
            ran += 1
        return ran, reasons

    def one(self, block: Block) -> None:
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "bash":
            self.printed = "".join(self.command(command) for command in commands(block.text))
        elif block.language == "text":
            if self.printed is None:
                raise PageError("nothing was printed before it")
            compare(block.text, self.printed)
        elif block.language == "python" and not self.in_a_copy:
            with contextlib.chdir(self.folder), contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block.text, f"{self.page.name}:{block.line}", "exec"), self.names)
            self.printed = out.getvalue()
        elif block.language == "python":
            self.printed = self.process([sys.executable, "-c", block.text])
        else:
            raise PageError(f"a block of {block.language or 'no language'} is neither run nor excused")

    def command(self, command: str) -> str:
        words = shlex.split(command)
        if words[0] == "lat-export" and not SHELL.search(command) and not self.in_a_copy:
            with contextlib.chdir(self.folder):
                if export := EXPORT.fullmatch(command):
                    return self.exports.run(command, Path(export["out"]), lambda: in_this_process(words[1:]))
                return in_this_process(words[1:])
        return self.process(["bash", "-ec", command])

    def process(self, words: list[str]) -> str:
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PageError(f"{words[-1]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr


def in_this_process(arguments: list[str]) -> str:
    """`lat-export`, without the seconds that torch takes to be imported once more."""
    from lat_export.cli import main

    out = io.StringIO()
    given, sys.argv = sys.argv, ["lat-export", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main()
    except SystemExit as ended:
        if ended.code:
            raise PageError(f"lat-export {shlex.join(arguments)} ended with {ended.code}\n{out.getvalue()}") from None
    finally:
        sys.argv = given
    return out.getvalue()


def compare(wanted: str, printed: str) -> None:
    """Raise unless every line of `wanted` stands in `printed`, in this order."""
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in wanted.splitlines():
        line = " ".join(line.split())
        if line in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in line.split("...")))
        place = next((index for index, found in enumerate(rest) if pattern.fullmatch(found)), None)
        if place is None:
            raise PageError(f"was not printed: {line}\n{printed}")
        rest = rest[place + 1 :]
