"""A Parquet table, read by pyarrow (extra `[parquet]`): a row group at a time is in memory, of the columns needed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lat_export.digest import file_sha256
from lat_export.documents.parquet import demand_pyarrow
from lat_export.documents.rows import BadRow, Fields, Row, read_row
from lat_export.documents.source import CHUNK_BYTES, CHUNK_ROWS, Chunk, Plan, changed
from lat_export.errors import InputError, first_line

# Decoded at a time.
BATCH_ROWS = 256
Cells = dict[str, Any]


@dataclass
class ParquetTable:
    """Reading a chunk that follows the last one goes on where that ended."""

    path: Path
    fields: Fields

    def __post_init__(self) -> None:
        self._next = -1
        self._rows: Iterator[Cells] = iter(())

    def plan(self) -> Plan:
        self._check_columns()
        sha256 = file_sha256(self.path)
        chunks: list[Chunk] = []
        start = rows = size = crc = 0
        for cells in self._from(0, self.fields.read):
            rows, size, crc = rows + 1, size + sum(map(_bytes, cells.values())), self._sum(cells, crc)
            if rows - start >= CHUNK_ROWS or size >= CHUNK_BYTES:
                chunks.append(Chunk(len(chunks), start + 1, start, rows - start, crc))
                start, size, crc = rows, 0, 0
        if rows > start:
            chunks.append(Chunk(len(chunks), start + 1, start, rows - start, crc))
        return Plan(sha256, tuple(chunks), rows)

    def read(self, chunk: Chunk) -> list[Row | BadRow]:
        if chunk.start != self._next:
            self._rows = self._from(chunk.start, tuple(dict.fromkeys((*self.fields.read, *self.fields.kept))))
        rows: list[Row | BadRow] = []
        crc = 0
        # The range comes first, so that no row is taken beyond the chunk.
        for number, cells in zip(range(chunk.first, chunk.first + chunk.size), self._rows, strict=False):
            rows.append(read_row(number, cells, self.fields))
            crc = self._sum(cells, crc)
        if len(rows) < chunk.size or crc != chunk.crc:
            raise changed(self.path)
        self._next = chunk.start + chunk.size
        return rows

    def _from(self, start: int, columns: tuple[str, ...]) -> Iterator[Cells]:
        file = _opened(self.path)
        groups: list[int] = []
        skipped = start
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if not groups and skipped >= rows:
                skipped -= rows
            else:
                groups.append(group)
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(columns), use_threads=False):
                yield from batch.slice(min(skipped, len(batch))).to_pylist()
                skipped -= min(skipped, len(batch))
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise InputError("the Parquet file cannot be read", got=f"{self.path}: {first_line(error)}") from error

    def _sum(self, cells: Cells, crc: int) -> int:
        return zlib.crc32(repr([cells[name] for name in self.fields.read]).encode(), crc)

    def _check_columns(self) -> None:
        """A column that is missing, no text, or kept and bytes would make every row a bad one."""
        import pyarrow as pa

        schema = _opened(self.path).schema_arrow
        for name in (*self.fields.read, *self.fields.kept):
            if name not in schema.names:
                raise InputError(
                    f'no column "{name}"', got=", ".join(schema.names), expected=", ".join(self.fields.read)
                )
        for name in self.fields.kept:
            kind = schema.field(name).type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
                raise InputError(f'the column "{name}" cannot be kept', got=kind, expected="a type that has a text")
        for name in self.fields.read:
            kind, expected = schema.field(name).type, "string"
            if name == "choices":
                kind, expected = getattr(kind, "value_type", None), "a list of strings"
            if not (kind in (pa.string(), pa.large_string(), pa.string_view()) or _is_dictionary_of_text(kind)):
                raise InputError(
                    f'the column "{name}" is of another type', got=schema.field(name).type, expected=expected
                )


def _is_dictionary_of_text(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_dictionary(kind) and kind.value_type in (pa.string(), pa.large_string())


def _opened(path: Path) -> Any:
    demand_pyarrow(path)
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise InputError("not a Parquet file", got=f"{path}: {first_line(error)}") from error


def _bytes(cell: Any) -> int:
    """About how much text."""
    if isinstance(cell, str):
        return len(cell)
    return sum(map(_bytes, cell)) if isinstance(cell, list) else 0
