"""Tables: the answers of the same rows as JSON lines, and what a table cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from documents.corpus import read_lines, write_lines, write_table

from lat_export.documents import Job, run_documents
from lat_export.documents.parquet_source import ParquetTable
from lat_export.documents.rows import Fields
from lat_export.documents.source import CHUNK_ROWS
from lat_export.errors import InputError
from lat_export.pipeline import Exported

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra [parquet]")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: the extra [parquet]")
Export = Callable[..., Exported]


def test_cells_without_text_are_bad_rows(exported: Export, tmp_path: Path) -> None:
    bundle = exported("text-classification").bundle.folder
    given = write_table(tmp_path / "in.parquet", [{"text": "a"}, {"text": None}, {"text": "b"}])
    job = Job(bundle, given, tmp_path / "out.parquet")
    summary = run_documents(job)
    assert (summary.answered, summary.bad) == (2, 1)
    assert pq.read_table(job.output)["row"].to_pylist() == [1, 3]
    assert read_lines(job.bad_output) == [{"row": 2, "reason": '"text" is no string; got: null'}]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_dates_and_decimals_are_kept_as_text(suffix: str, exported: Export, tmp_path: Path) -> None:
    cells = {
        "day": (pa.date32(), date(2024, 2, 29), "2024-02-29"),
        "at": (pa.timestamp("us"), datetime(2024, 2, 29, 13, 5), "2024-02-29T13:05:00"),
        "price": (pa.decimal128(5, 2), Decimal("1.10"), "1.10"),
        "days": (pa.list_(pa.date32()), [date(2024, 2, 29)], ["2024-02-29"]),
    }
    columns = {name: pa.array([cell], kind) for name, (kind, cell, _) in cells.items()}
    pq.write_table(pa.table({"text": ["a"], **columns}), tmp_path / "in.parquet")
    bundle = exported("text-classification").bundle.folder
    job = Job(bundle, tmp_path / "in.parquet", tmp_path / f"out{suffix}", kept=tuple(cells))
    assert run_documents(job).bad == 0
    (found,) = read_lines(job.output) if suffix == ".jsonl" else pq.read_table(job.output).to_pylist()
    wanted = {name: text for name, (_, _, text) in cells.items()}
    if suffix == ".parquet":
        wanted["days"] = json.dumps(wanted["days"])
    assert {name: found[name] for name in cells} == wanted


def test_bytes_are_not_kept(exported: Export, tmp_path: Path) -> None:
    bundle = exported("text-classification").bundle.folder
    table = pa.table({"text": ["a"], "image": [b"\xff"], "images": [[b"\xff"]]})
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(InputError, match='the column "image" cannot be kept'):
        run_documents(Job(bundle, tmp_path / "in.parquet", tmp_path / "out.jsonl", kept=("image",)))
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    nested = Job(bundle, tmp_path / "in.parquet", tmp_path / "out.jsonl", kept=("images",))
    assert (run_documents(nested).bad, "JSON does not have; got: bytes" in nested.bad_output.read_text()) == (1, True)


def test_chunks_of_a_table_are_read_in_any_order(tmp_path: Path) -> None:
    found = [{"text": f"document {n}", "more": n} for n in range(2 * CHUNK_ROWS + 100)]
    path = write_table(tmp_path / "in.parquet", found, group_rows=700)
    fields = Fields("text-classification", kept=("more",))
    source = ParquetTable(path, fields)
    plan = source.plan()
    assert (plan.rows, len(plan.chunks)) == (len(found), 3)
    for order in (1, -1):
        read = [source.read(chunk) for chunk in plan.chunks[::order]][::order]
        assert [row.kept["more"] for part in read for row in part] == list(range(len(found)))  # type: ignore[union-attr]
        assert [row.number for part in read for row in part] == list(range(1, len(found) + 1))
    found[5]["text"] = "other"
    write_table(path, found)
    with pytest.raises(InputError, match="the input changes while it is read"):
        ParquetTable(path, fields).read(plan.chunks[0])


def test_a_table_without_rows(exported: Export, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    job = Job(exported("text-classification").bundle.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert run_documents(job).answered == 0
    assert pq.read_table(job.output).num_rows == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"texts": ["a"]}, 'no column "text"'), ({"text": [1]}, 'the column "text" is of another type')],
)
def test_a_table_that_asks_nothing(columns: dict[str, Any], words: str, exported: Export, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    job = Job(exported("text-classification").bundle.folder, tmp_path / "in.parquet", tmp_path / "out.jsonl")
    with pytest.raises(InputError, match=words):
        run_documents(job)
    assert list(tmp_path.iterdir()) == [job.input]


def test_a_file_that_is_no_table(exported: Export, tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_text('{"text": "a"}\n')
    job = Job(exported("text-classification").bundle.folder, tmp_path / "in.parquet", tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="not a Parquet file"):
        run_documents(job)


def test_without_pyarrow_the_extra_is_named(exported: Export, tmp_path: Path) -> None:
    bundle = exported("text-classification").bundle.folder
    given = write_lines(tmp_path / "in.jsonl", [{"text": "a"}])
    arguments = ["lat-export", "run", str(bundle), "--input", str(given), "--output", str(tmp_path / "out.parquet")]
    code = f"""
import sys
sys.modules["pyarrow"] = None
sys.argv = {arguments!r}
from lat_export.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "pip install 'lat-export[parquet]'" in done.stderr
    assert json.loads(given.read_text()) == {"text": "a"}
