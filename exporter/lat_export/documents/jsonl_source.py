"""JSON lines: an object a line, in UTF-8; a byte order mark, CRLF, blank lines and a missing last newline are borne."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lat_export.documents.rows import BadRow, Fields, Row, read_row
from lat_export.documents.source import CHUNK_BYTES, CHUNK_ROWS, Chunk, Plan, changed
from lat_export.errors import first_line

# Far beyond any checkpoint's positions; a longer one is never held in memory.
LONGEST_LINE_BYTES = 16 << 20
PIECE_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class JsonLines:
    path: Path
    fields: Fields

    def plan(self) -> Plan:
        digest = hashlib.sha256()
        chunks: list[Chunk] = []
        lines = rows = start = size = crc = chunk_lines = 0
        blank = True

        def close() -> None:
            nonlocal lines, start, size, crc, chunk_lines
            if size:
                chunks.append(Chunk(len(chunks), lines + 1, start, size, crc))
            lines, start = lines + chunk_lines, start + size
            size = crc = chunk_lines = 0

        with self.path.open("rb") as stream:
            while piece := stream.readline(PIECE_BYTES):
                digest.update(piece)
                crc, size = zlib.crc32(piece, crc), size + len(piece)
                blank = blank and not _stripped(piece, start == 0 and size == len(piece))
                if not piece.endswith(b"\n"):
                    continue
                rows, chunk_lines, blank = rows + (not blank), chunk_lines + 1, True
                if chunk_lines >= CHUNK_ROWS or size >= CHUNK_BYTES:
                    close()
        rows += not blank
        close()
        return Plan(digest.hexdigest(), tuple(chunks), rows)

    def read(self, chunk: Chunk) -> list[Row | BadRow]:
        rows: list[Row | BadRow] = []
        for number, line in enumerate(self._lines(chunk), chunk.first):
            if line is None:
                rows.append(BadRow(number, f"the line has more than {LONGEST_LINE_BYTES >> 20} MiB"))
            elif text := _stripped(line, chunk.start == 0 and number == 1):
                rows.append(self._row(number, text))
        return rows

    def _lines(self, chunk: Chunk) -> Iterator[bytes | None]:
        """Every line, None in place of one that is too long."""
        left, crc = chunk.size, 0
        with self.path.open("rb") as stream:
            stream.seek(chunk.start)
            line: bytes | None = b""
            while left and (piece := stream.readline(min(left, PIECE_BYTES))):
                left, crc = left - len(piece), zlib.crc32(piece, crc)
                line = None if line is None or len(line) + len(piece) > LONGEST_LINE_BYTES else line + piece
                if piece.endswith(b"\n") or not left:
                    yield line
                    line = b""
        if left or crc != chunk.crc:
            raise changed(self.path)

    def _row(self, number: int, line: bytes) -> Row | BadRow:
        try:
            found = json.loads(line.decode())
        except UnicodeDecodeError as error:
            return BadRow(number, f"no UTF-8; got: byte {error.object[error.start]:#x} at {error.start}")
        # A RecursionError is of brackets in brackets in brackets.
        except (ValueError, RecursionError) as error:
            return BadRow(number, f"no JSON; got: {first_line(error)}")
        return read_row(number, found, self.fields)


def _stripped(line: bytes, begins_file: bool) -> bytes:
    return (line.removeprefix(BYTE_ORDER_MARK) if begins_file else line).strip()
