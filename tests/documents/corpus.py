"""Documents of mixed lengths, and what reads a run's output."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from lat_export.inference import Request

WORDS = ("the", "keeper", "northern", "tower", "kept", "light", "storm", "and", "harbour", "lay", "dry", "tide")


def rows(task: str, count: int, seed: int = 3, most_words: int = 14) -> list[dict[str, Any]]:
    """As a user's file has them, with fields that nobody reads."""
    chosen = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(chosen.choices(WORDS, k=chosen.randint(1, most)))

    found = []
    for number in range(count):
        row: dict[str, Any] = {"id": f"document {number}", "text": words(most_words), "year": 1900 + number}
        if task == "fill-mask":
            row["text"] += " <mask>"
        if task == "question-answering":
            row["question"] = words(4)
        if task == "multiple-choice":
            row["choices"] = [words(5) for _ in range(chosen.randint(2, 3))]
        found.append(row)
    return found


def request(row: dict[str, Any]) -> Request:
    return Request(row["text"], row.get("question"), tuple(row.get("choices", ())))


def write_lines(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def write_table(path: Path, found: list[dict[str, Any]], group_rows: int = 7) -> Path:
    """As Parquet, in row groups of so many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(found), path, row_group_size=group_rows)
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
