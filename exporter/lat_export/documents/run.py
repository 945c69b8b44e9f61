"""A file of documents -> a file of answers: plan, answer every chunk that is not done, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lat_export.documents.answering import Limits, limits_of, open_answering
from lat_export.documents.job import Job, check_job, check_kept
from lat_export.documents.parquet import write_parquet
from lat_export.documents.source import Chunk
from lat_export.documents.store import Store, open_store
from lat_export.inference import front_of
from lat_export.stages.bundle import Bundle, read_bundle
from lat_export.types import Signature


@dataclass(frozen=True)
class Summary:
    """
    Attributes:
        bad_output: the side file; None where no row was bad.
        resumed: rows that an earlier run had done.
        seconds: of this run.
        batching: what keeps rows from sharing a batch as they come, in a sentence; "" for nothing.
    """

    answered: int
    bad: int
    output: Path
    bad_output: Path | None
    resumed: int
    seconds: float
    batching: str

    def to_json(self) -> dict[str, Any]:
        bad_output = None if self.bad_output is None else str(self.bad_output)
        return {**asdict(self), "output": str(self.output), "bad_output": bad_output}


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows, of which `resumed` took it no time."""

    done: int
    resumed: int
    rows: int


Report = Callable[[Progress], None]


def run_documents(job: Job, report: Report = lambda progress: None) -> Summary:
    """
    Args:
        report: called when the plan is made, and after every batch.
    Raises:
        LatExportError: of what is wrong. What is done stays beside the output, and the same job goes on from there.
    """
    started = time.perf_counter()
    check_job(job)
    bundle = read_bundle(job.bundle)
    check_kept(job, bundle.signature)
    front_of(bundle)
    limits = limits_of(bundle, job.max_batch, job.batch_tokens)
    with open_store(job.output, job.bad_output, force=job.force, restart=job.restart) as store:
        plan = job.source(bundle.signature).plan()
        store.begin(job.identity(plan, limits), force=job.force)
        done = store.done
        report(Progress(done, store.resumed, plan.rows))
        waiting = [chunk for chunk in plan.chunks if not store.is_whole(chunk.index)]
        for rows in _answered(job, bundle, limits, waiting, store) if waiting else ():
            done += rows
            report(Progress(done, store.resumed, plan.rows))
        store.publish(_converter(job, bundle.signature))
        state, resumed = store.state, store.resumed
    bad_output = job.bad_output if state.bad else None
    seconds = round(time.perf_counter() - started, 3)
    return Summary(state.answered, state.bad, job.output, bad_output, resumed, seconds, limits.why)


def _answered(job: Job, bundle: Bundle, limits: Limits, chunks: list[Chunk], store: Store) -> Iterator[int]:
    """Rows of every batch, or of every chunk on a cluster, when they are on disk."""
    if job.ray is not None:
        from lat_export.documents.ray_cluster import answered_on_ray

        for chunk, spool in answered_on_ray(job, limits, chunks):
            yield store.put(chunk, spool)
        return
    source = job.source(bundle.signature)
    with open_answering(bundle, limits, job.threads) as answering:
        for one in chunks:
            lines = answering.answers(source.read(one), store.batches_of(one.index))
            yield from store.write(one.index, lines)


def _converter(job: Job, signature: Signature) -> Callable[[Path, Path], None] | None:
    if job.output.suffix != ".parquet":
        return None
    return lambda lines, out: write_parquet(lines, out, signature, job.kept)
