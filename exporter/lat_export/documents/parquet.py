"""Answers as a Parquet table: a column for each field of an answer, typed by the task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import MissingError
from lat_export.types import Signature

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 16 << 20
SPAN = {"start": "int64", "end": "int64"}
# Columns by name: a type, a list of a type or of structs, or a list of such a list.
COLUMNS: dict[str, dict[str, Any]] = {
    "fill-mask": {"masks": [[{"token": "string", "score": "double", "text": "string"}]]},
    "text-classification": {"labels": [{"label": "string", "score": "double"}]},
    "multiple-choice": {"choice": "string", "index": "int64", "scores": ["double"]},
    "token-classification": {"entities": [{"label": "string", "score": "double", "text": "string", **SPAN}]},
    "question-answering": {"answers": [{"answer": "string", "score": "double", **SPAN}]},
}


def answer_columns(signature: Signature) -> dict[str, Any]:
    """Names and types of a task's answer; features are named as the outputs, without their first axis."""
    if signature.task != "feature-extraction":
        return COLUMNS[signature.task]
    columns: dict[str, Any] = {}
    for spec in signature.outputs:
        columns[spec.name] = "float"
        for _ in spec.dims[1:]:
            columns[spec.name] = [columns[spec.name]]
    return columns


def demand_pyarrow(path: Path) -> None:
    """
    Raises:
        MissingError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "Parquet needs the Python package pyarrow",
            got=path,
            hint="pip install 'lat-export[parquet]', or use JSON lines (.jsonl)",
        ) from error


def write_parquet(lines: Path, out: Path, signature: Signature, kept: tuple[str, ...]) -> None:
    """Of a file of JSON lines, as `answering` writes them.

    Args:
        kept: become columns of text: strings as they are, all else as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"row": "int64", **dict.fromkeys(kept, "string"), **answer_columns(signature)}
    schema = pa.schema([(name, _type(kind)) for name, kind in kinds.items()])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for rows in _groups(lines, kept):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _groups(lines: Path, kept: tuple[str, ...]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    with lines.open("rb") as stream:
        for line in stream:
            row = json.loads(line)
            rows.append({**row, **{name: _as_text(row[name]) for name in kept}})
            size += len(line)
            if size >= GROUP_BYTES:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        # Half a surrogate pair, which JSON can spell and UTF-8 cannot.
        return value and value.encode("utf-8", "replace").decode()
    return json.dumps(value)


def _type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, list):
        return pa.list_(_type(kind[0]))
    if isinstance(kind, dict):
        return pa.struct([(name, _type(field)) for name, field in kind.items()])
    return pa.type_for_alias(kind)
