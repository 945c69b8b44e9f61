"""Answers of one chunk on disk, batch by batch, so that nothing that was answered before a kill is answered again.

A record is a JSON line with the batch's rows, their sizes and the CRC-32 of what follows, then the lines themselves;
the last record of a chunk says that it is whole. What a kill cut off is found by size or sum, and dropped.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lat_export.documents.answering import Line

END = b'{"whole": true}\n'


@dataclass(frozen=True)
class Spooled:
    """Where a line lies in a spool."""

    number: int
    bad: bool
    start: int
    size: int


@dataclass(frozen=True)
class Spool:
    """What could be read of one.

    Attributes:
        valid_bytes: up to the end of the last sound record.
    """

    batches: int
    lines: tuple[Spooled, ...]
    valid_bytes: int
    whole: bool


def record(batch: Iterable[Line]) -> bytes:
    lines = tuple(batch)
    data = b"".join(line.data for line in lines)
    rows = [[line.number, line.bad, len(line.data)] for line in lines]
    return json.dumps({"rows": rows, "crc": zlib.crc32(data)}).encode() + b"\n" + data


def read_spool(path: Path) -> Spool:
    """Every sound record from the start; an absent file has none."""
    batches, valid, whole = 0, 0, False
    lines: list[Spooled] = []
    if path.is_file():
        with path.open("rb") as stream:
            for found in _records(stream):
                if found is None:
                    whole = True
                else:
                    lines += found
                    batches += 1
                valid = stream.tell()
    return Spool(batches, tuple(lines), valid, whole)


def _records(stream: IO[bytes]) -> Iterator[list[Spooled] | None]:
    """The rows of each record, None for the end mark."""
    while header := stream.readline():
        if header == END:
            yield None
            return
        try:
            described = json.loads(header)
            rows, crc = described["rows"], described["crc"]
        except (ValueError, KeyError, TypeError):
            return
        lines, start = [], stream.tell()
        for number, bad, size in rows:
            lines.append(Spooled(number, bad, start, size))
            start += size
        data_sum = 0
        for line in lines:
            data = stream.read(line.size)
            if len(data) < line.size:
                return
            data_sum = zlib.crc32(data, data_sum)
        if data_sum != crc:
            return
        yield lines


def whole_spool(batches: Iterable[Iterable[Line]]) -> bytes:
    """Of a chunk that is answered at once, elsewhere."""
    return b"".join(map(record, batches)) + END
