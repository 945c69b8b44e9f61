"""What a user asks for, checked before anything is read; and the source and the identity that follow from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lat_export.digest import file_sha256
from lat_export.documents.answering import Limits
from lat_export.documents.jsonl_source import JsonLines
from lat_export.documents.parquet import answer_columns, demand_pyarrow
from lat_export.documents.parquet_source import ParquetTable
from lat_export.documents.rows import Fields
from lat_export.documents.source import CHUNK_BYTES, CHUNK_ROWS, Plan, Source
from lat_export.errors import InputError
from lat_export.stages.bundle import MANIFEST_FILE
from lat_export.types import Signature

SOURCES: dict[str, Callable[[Path, Fields], Source]] = {".jsonl": JsonLines, ".parquet": ParquetTable}
# Of what lies on disk between two runs.
STORE_VERSION = 1


@dataclass(frozen=True)
class Job:
    """
    Attributes:
        top_k: answers of a row where a task ranks them.
        kept: fields of the input that go to the output.
        max_batch: rows of a batch at most; batch_tokens: tokens. None for the defaults.
        threads: of each model; None for one a core.
        ray: address of a Ray cluster, or "local"; None for this process.
        workers: models that run at once on Ray; None for as many as it has processors for.
        restart: drop what an unfinished run has done.
        force: replace an output.
    """

    bundle: Path
    input: Path
    output: Path
    top_k: int = 5
    kept: tuple[str, ...] = ()
    max_batch: int | None = None
    batch_tokens: int | None = None
    threads: int | None = None
    ray: str | None = None
    workers: int | None = None
    restart: bool = False
    force: bool = False

    @property
    def bad_output(self) -> Path:
        """The side file of bad rows."""
        return self.output.with_name(f"{self.output.name}.bad.jsonl")

    def source(self, signature: Signature) -> Source:
        return SOURCES[self.input.suffix](self.input, Fields(signature.task, self.top_k, self.kept))

    def identity(self, plan: Plan, limits: Limits) -> dict[str, Any]:
        """What must be the same for work to be taken up."""
        return {
            "format": [STORE_VERSION, CHUNK_ROWS, CHUNK_BYTES],
            "input": plan.sha256,
            "bundle": file_sha256(self.bundle / MANIFEST_FILE),
            "--top-k": self.top_k,
            "--keep": list(self.kept),
            "limits of a batch": [value for name, value in asdict(limits).items() if name != "why"],
        }


def check_job(job: Job) -> None:
    """
    Raises:
        InputError: a path cannot be what it is given as.
        MissingError: Parquet without pyarrow.
    """
    for path, option in ((job.input, "--input"), (job.output, "--output")):
        if path.suffix not in SOURCES:
            raise InputError(f"{option} of an unknown format", got=path, expected=f"a name with {' or '.join(SOURCES)}")
        if path.suffix == ".parquet":
            demand_pyarrow(path)
    if not job.input.is_file():
        found = "no such file" if not job.input.exists() else "no regular file: work on it could not be taken up again"
        raise InputError("the input cannot be read", got=f"{job.input}: {found}", expected="a file")
    if not os.access(job.input, os.R_OK):
        raise InputError("the input cannot be read", got=f"{job.input}: no permission")
    folder = job.output.parent
    if not folder.is_dir():
        raise InputError("no folder for the output", got=folder, hint=f"mkdir -p {folder}")
    for path in (job.output, job.bad_output):
        if path.exists() and not path.is_file():
            raise InputError("the output is no file", got=path)
        if path.exists() and path.samefile(job.input):
            raise InputError("the output is the input", got=path, hint="choose another --output")


def check_kept(job: Job, signature: Signature) -> None:
    """
    Raises:
        InputError: a kept field has the name of one that is written.
    """
    taken = ("row", *answer_columns(signature))
    for name in job.kept:
        if name in taken or job.kept.count(name) > 1:
            raise InputError(
                "a kept field has the name of another", got=f"--keep {name}", expected=f"none of {', '.join(taken)}"
            )
