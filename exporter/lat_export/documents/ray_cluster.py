"""The same answers on a Ray cluster: chunks go through Ray Data to a pool of actors, each with the bundle open.

Only chunks are sent, a few numbers each: input and bundle must lie at the same paths on every node. An actor that dies
is replaced and its chunk answered again, whole; nothing of it was written before.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from lat_export.digest import file_sha256
from lat_export.documents.answering import Limits, open_answering
from lat_export.documents.job import Job
from lat_export.documents.source import Chunk
from lat_export.documents.spool import whole_spool
from lat_export.errors import InputError, LatExportError, MissingError, first_line
from lat_export.stages.bundle import MANIFEST_FILE, read_bundle

LOCAL = "local"
KNOCK_S = 10
# Of Ray Data, each with its own overhead; more chunks than that share them.
MOST_BLOCKS = 2000


class Worker:
    """One actor of the pool.

    Args:
        bundle_sha256: of the manifest of the bundle that was asked for.
    """

    def __init__(self, job: Job, limits: Limits, bundle_sha256: str) -> None:
        self._opened = ExitStack()
        self._error: LatExportError | None = None
        try:
            bundle = read_bundle(job.bundle)
            if file_sha256(job.bundle / MANIFEST_FILE) != bundle_sha256:
                raise InputError("another bundle lies at this path of a node", got=job.bundle)
            self._source = job.source(bundle.signature)
            self._answering = self._opened.enter_context(open_answering(bundle, limits, job.threads or 1))
        except LatExportError as error:
            # An actor that cannot start is started again for ever; this tells the caller.
            self._error = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The spool of one chunk, or why there is none."""
        if self._error is not None:
            return {"index": row["index"], "spool": b"", "error": str(self._error)}
        try:
            rows = self._source.read(Chunk(**row))
            return {"index": row["index"], "spool": whole_spool(self._answering.answers(rows)), "error": ""}
        except (LatExportError, OSError) as error:
            return {"index": row["index"], "spool": b"", "error": str(error)}


def answered_on_ray(job: Job, limits: Limits, chunks: list[Chunk]) -> Iterator[tuple[int, bytes]]:
    """Index and spool of every chunk, in the order in which they are done.

    Raises:
        MissingError: ray is not installed, or the cluster does not answer.
        InputError: a node cannot open the bundle or the input.
    """
    ray, ray_data = _ray()
    started = not ray.is_initialized()
    if started:
        _connect(ray, str(job.ray))
    try:
        # Its reports of every run, and of bars that are off; errors pass.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray_data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        rows = ray_data.from_items(
            [asdict(chunk) for chunk in chunks], override_num_blocks=min(len(chunks), MOST_BLOCKS)
        )
        threads = job.threads or 1
        workers = _workers(job, threads, int(ray.cluster_resources().get("CPU", 0)), len(chunks))
        sha256 = file_sha256(job.bundle / MANIFEST_FILE)
        pool = ray_data.ActorPoolStrategy(size=workers)
        answered = rows.map(Worker, fn_constructor_args=(job, limits, sha256), compute=pool, num_cpus=threads)
        for found in answered.iter_rows():
            if found["error"]:
                raise InputError("a worker of the cluster cannot answer", got=found["error"])
            yield int(found["index"]), bytes(found["spool"])
    finally:
        if started:
            ray.shutdown()


def _workers(job: Job, threads: int, processors: int, chunks: int) -> int:
    """
    Raises:
        InputError: more than the cluster has room for, which Ray would wait for without end.
    """
    most = processors // threads
    if (job.workers or 1) > most:
        raise InputError(
            "the cluster has too few processors",
            got=f"{processors}, for {job.workers or 1} workers of {threads} threads",
            expected=f"--workers {most} at most" if most else f"--threads {processors} at most",
        )
    return job.workers or min(most, chunks)


def _ray() -> tuple[Any, Any]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingError(
            "--ray needs the Python package ray", got=first_line(error), hint="pip install 'lat-export[ray]'"
        ) from error
    return ray, ray.data


def _connect(ray: Any, address: str) -> None:
    try:
        if address != LOCAL:
            _knock(address)
        ray.init(address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingError(
            "the Ray cluster does not answer",
            got=f"{address}: {first_line(error)}",
            expected=f"HOST:PORT of its head, or {LOCAL}",
            hint="ray start --head prints the address",
        ) from error


def _knock(address: str) -> None:
    """Ray itself tries for many minutes to reach a head that is not there."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), KNOCK_S).close()
