"""What a file of documents is read through, whatever its format: one pass to cut it into chunks, then chunk by chunk.

A chunk is what is tokenised, sorted by length, answered and written at a time, so it bounds the memory; and it is what
a worker of a cluster takes. Its limits are the same for every run: resumed work meets the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lat_export.documents.rows import BadRow, Row
from lat_export.errors import InputError

CHUNK_ROWS = 1024
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Chunk:
    """
    Attributes:
        first: number of its first row or line, from 1.
        start, size: in bytes of the file, or in rows of the table.
        crc: CRC-32 of the bytes, or of what is read of the table.
    """

    index: int
    first: int
    start: int
    size: int
    crc: int


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        sha256: of the whole file.
        rows: how many there are; blank lines are none.
    """

    sha256: str
    chunks: tuple[Chunk, ...]
    rows: int


class Source(Protocol):
    """A file of documents."""

    def plan(self) -> Plan: ...

    def read(self, chunk: Chunk) -> list[Row | BadRow]:
        """
        Raises:
            InputError: the file is not what it was when it was planned.
        """


def changed(path: Path) -> InputError:
    return InputError(
        "the input changes while it is read",
        got=path,
        hint="give a copy that nothing writes to; what is answered so far is of the file as it was",
    )
