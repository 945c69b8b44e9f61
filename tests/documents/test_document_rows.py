"""Whatever a file of JSON lines holds: every row is answered or told of, once, by its number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents.corpus import read_lines, rows, write_lines

from lat_export.documents import Job, Summary, answering, run_documents
from lat_export.documents.jsonl_source import LONGEST_LINE_BYTES, JsonLines
from lat_export.documents.rows import BadRow, Fields, read_row
from lat_export.documents.source import CHUNK_BYTES, CHUNK_ROWS
from lat_export.pipeline import Exported
from lat_export.stages.bundle import read_bundle

Export = Callable[..., Exported]
GOOD = b'{"text": "The light."}'


@pytest.fixture
def answered(exported: Export, tmp_path: Path) -> Callable[..., tuple[Summary, Path]]:
    """`answered(bytes of the input)`."""

    def get(data: bytes, task: str = "text-classification") -> tuple[Summary, Path]:
        (tmp_path / "in.jsonl").write_bytes(data)
        job = Job(exported(task).bundle.folder, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
        return run_documents(job), job.output

    return get


BAD = [
    (b"{", "no JSON; got: JSONDecodeError: Expecting property name"),
    (b"text", "no JSON"),
    (b"[]", 'no JSON object; got: a list; expected: {"text": "..."}'),
    (b"null", "no JSON object; got: null"),
    (b'{"texts": "a"}', 'no field "text"; got: ["texts"]'),
    (b'{"text": null}', '"text" is no string; got: null'),
    (b'{"text": 7}', '"text" is no string; got: a number'),
    (b'{"text": ["a"]}', '"text" is no string; got: a list'),
    (b'{"text": "\xff"}', "no UTF-8; got: byte 0xff at 10"),
    (b'{"text": "\\ud800"}', '"text" is no Unicode text; got: half a surrogate pair at character 0'),
    (b'{"text": ' + b"[" * 100_000, "no JSON; got: RecursionError"),
    (b'{"text": ' + b"9" * 5000 + b"}", "no JSON; got: ValueError: Exceeds the limit"),
    (b"\x00\x00\x00", "no JSON"),
    (GOOD + GOOD, "no JSON; got: JSONDecodeError: Extra data"),
    (
        json.dumps({"text": "light " * 400}).encode(),
        "position table; got: N=405; expected: N <= 256",
    ),
]


def test_bad_rows_are_told_of_and_the_rest_is_answered(answered: Callable[..., tuple[Summary, Path]]) -> None:
    lines = [part for line, _ in BAD for part in (GOOD, line)]
    summary, out = answered(b"\n".join(lines) + b"\n")
    assert (summary.answered, summary.bad) == (len(BAD), len(BAD))
    assert [row["row"] for row in read_lines(out)] == list(range(1, 2 * len(BAD), 2))
    told = read_lines(out.with_name("out.jsonl.bad.jsonl"))
    assert [row["row"] for row in told] == list(range(2, 2 * len(BAD) + 1, 2))
    for row, (line, reason) in zip(told, BAD, strict=True):
        assert reason in row["reason"], line[:80]
        assert "\n" not in row["reason"]


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"\xef\xbb\xbf", []),
        (GOOD, [1]),
        (GOOD + b"\n", [1]),
        (GOOD + b"\n" + GOOD, [1, 2]),
        (b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD + b"\n", [1, 2]),
        (b"\xef\xbb\xbf\n" + GOOD, [2]),
        (GOOD + b"\r\n" + GOOD + b"\r\n", [1, 2]),
        (b"\n \n" + GOOD + b"\n\t\r\n\n" + GOOD + b"\n\n", [3, 6]),
        (b'{"id": 1, "text": "a"}\n' * 3, [1, 2, 3]),
        (b'{"text": "a", "text": "b"}', [1]),
        (b'{"text": ""}', [1]),
    ],
)
def test_odd_files(data: bytes, numbers: list[int], answered: Callable[..., tuple[Summary, Path]]) -> None:
    summary, out = answered(data)
    assert (summary.answered, summary.bad, summary.bad_output) == (len(numbers), 0, None)
    assert [row["row"] for row in read_lines(out)] == numbers
    assert sorted(path.name for path in out.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_mask_that_is_missing_is_told_of(answered: Callable[..., tuple[Summary, Path]]) -> None:
    summary, out = answered(b'{"text": "No."}\n{"text": "A <mask>."}\n', "fill-mask")
    assert (summary.answered, summary.bad) == (1, 1)
    assert "has no mask to fill" in read_lines(out.with_name("out.jsonl.bad.jsonl"))[0]["reason"]


@pytest.mark.parametrize(
    ("task", "found", "reason"),
    [
        ("question-answering", {"text": "a"}, 'no field "question"'),
        ("question-answering", {"text": "a", "question": 1}, '"question" is no string'),
        ("multiple-choice", {"text": "a"}, 'no list "choices"'),
        ("multiple-choice", {"text": "a", "choices": "b"}, 'no list "choices"; got: a string'),
        ("multiple-choice", {"text": "a", "choices": ["b", 1]}, 'one of "choices" is no string; got: a number'),
        ("multiple-choice", {"text": "a", "choices": []}, 'needs a field "choices"'),
    ],
)
def test_rows_of_two_texts(task: str, found: dict[str, Any], reason: str) -> None:
    row = read_row(1, found, Fields(task))
    assert isinstance(row, BadRow)
    assert reason in row.reason


def test_chunks_hold_every_line_once(tmp_path: Path) -> None:
    """More rows and more bytes than a chunk takes, and a line that is longer than any may be."""
    long = b'{"text": "' + b"a" * CHUNK_BYTES + b'"}\n'
    longest = b'{"text": "' + b"a" * LONGEST_LINE_BYTES + b'"}\n'
    path = tmp_path / "in.jsonl"
    path.write_bytes((GOOD + b"\n") * (CHUNK_ROWS + 5) + long + GOOD + b"\n" + longest + GOOD)
    source = JsonLines(path, Fields("text-classification"))
    plan = source.plan()
    assert plan.rows == CHUNK_ROWS + 9
    assert [chunk.first for chunk in plan.chunks] == [1, 1025, 1031, 1033]
    assert sum(chunk.size for chunk in plan.chunks) == path.stat().st_size
    read = [source.read(chunk) for chunk in reversed(plan.chunks)][::-1]
    assert [row.number for part in read for row in part] == list(range(1, plan.rows + 1))
    bad = [row for part in read for row in part if isinstance(row, BadRow)]
    assert bad == [BadRow(1032, "the line has more than 16 MiB")]


def test_memory_grows_neither_with_the_rows_nor_with_a_line_of_10_mb(exported: Export, tmp_path: Path) -> None:
    bundle, given, out = exported("text-classification").bundle.folder, tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    arguments = ["run", str(bundle), "--input", str(given), "--output", str(out), "--force"]
    write_lines(given, rows("text-classification", CHUNK_ROWS))
    once = peak_bytes(arguments, 0)
    write_lines(given, 4 * rows("text-classification", CHUNK_ROWS))
    assert peak_bytes(arguments, 0) < once + 30e6
    given.write_text("".join(json.dumps({"text": "light storm " * many}) + "\n" for many in (850_000, 1)))
    assert peak_bytes(arguments, 1) < once + 150e6
    assert [row["row"] for row in read_lines(out)] == [2]
    (told,) = read_lines(out.with_name("out.jsonl.bad.jsonl"))
    assert told["row"] == 1
    assert "far longer than the checkpoint's position table" in told["reason"]


def test_a_long_text_of_few_tokens_is_answered(exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is too long by its tokens is refused, whatever its characters."""
    bundle = read_bundle(exported("text-classification").bundle.folder)
    monkeypatch.setattr(answering, "LOOKED_AT", 1)
    fields = Fields("text-classification")
    with answering.open_answering(bundle, answering.limits_of(bundle)) as opened:
        most = bundle.signature.max_tokens
        texts = ["light storm " * (most // 6), "light storm " * most]
        kept, bad = opened.tokenised(read_row(n, {"text": text}, fields) for n, text in enumerate(texts, 1))
    assert len(texts[0]) > most
    assert [one.row.number for one in kept] == [1]
    assert [row.number for row in bad] == [2]


def peak_bytes(arguments: list[str], exit_code: int) -> int:
    code = f"""
import resource, sys
sys.argv = ["lat-export", *{arguments!r}]
from lat_export.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    return 1024 * int(done.stderr.splitlines()[-1])
