"""`run --input --ray`: the bytes of a run without Ray, also when a worker is killed in its middle.

The cluster is of two nodes in this machine, each with one processor. `make test-ray` installs Ray and runs this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from documents.corpus import rows, write_lines

from lat_export.documents import Job, Progress, run_documents
from lat_export.documents.answering import limits_of
from lat_export.documents.ray_cluster import Worker
from lat_export.documents.source import Chunk
from lat_export.errors import InputError, MissingError
from lat_export.pipeline import Exported
from lat_export.stages.bundle import read_bundle

Export = Callable[..., Exported]
TASK = "text-classification"
COUNT = 1500
CHUNK_ROWS = 25


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes, of which this process is the driver."""
    ray = pytest.importorskip("ray", reason="ray is not installed (extra [ray], 620 MB): make test-ray installs it")
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="this ray has no cluster_utils")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    try:
        yield found.address
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.fixture
def job(exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Small chunks, so that there are many; one thread, as each worker has."""
    monkeypatch.setattr("lat_export.documents.jsonl_source.CHUNK_ROWS", CHUNK_ROWS)
    given = write_lines(tmp_path / "in.jsonl", rows(TASK, COUNT))
    with given.open("a") as stream:
        stream.write("?\n")
    return Job(exported(TASK).bundle.folder, given, tmp_path / "out.jsonl", threads=1)


def outputs(job: Job) -> tuple[bytes, bytes]:
    return job.output.read_bytes(), job.bad_output.read_bytes()


def here(job: Job) -> tuple[bytes, bytes]:
    """What a run without Ray writes."""
    alone = replace(job, output=job.output.with_name("here.jsonl"))
    run_documents(alone)
    return outputs(alone)


def descendants(pid: int) -> Iterator[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    for child in (int(word) for path in children for word in path.read_text().split()):
        yield child
        yield from descendants(child)


def actors() -> list[int]:
    """Of the pool, among the processes that this one has started."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"ray::" in name and b"Worker" in name and b"IDLE" not in name:
            found.append(pid)
    return found


def test_two_workers_write_what_one_process_writes(cluster: str, job: Job) -> None:
    seen: set[int] = set()
    summary = run_documents(replace(job, ray=cluster, workers=2), lambda _: seen.update(actors()))
    assert (summary.answered, summary.bad) == (COUNT, 1)
    assert len(seen) >= 2
    assert outputs(job) == here(job)


def test_a_worker_that_is_killed_loses_and_doubles_nothing(cluster: str, job: Job) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.done >= CHUNK_ROWS * (1 + 5 * len(killed)) and len(killed) < 3:
            pid = actors()[0]
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    summary = run_documents(replace(job, ray=cluster, workers=2), kill)
    assert (summary.answered, summary.bad) == (COUNT, 1)
    assert len(set(killed)) == 3
    assert outputs(job) == here(job)


def test_a_run_on_ray_that_is_stopped_goes_on_without_it(cluster: str, job: Job) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done >= 10 * CHUNK_ROWS:
            raise StopError

    with pytest.raises(StopError):
        run_documents(replace(job, ray=cluster), stop)
    assert run_documents(job).resumed >= 10 * CHUNK_ROWS
    assert outputs(job) == here(job)


def test_a_worker_that_cannot_read_says_so(cluster: str, job: Job) -> None:
    def remove(progress: Progress) -> None:
        if progress.done == 0:
            job.input.write_text("")

    with pytest.raises(InputError, match="a worker of the cluster cannot answer") as raised:
        run_documents(replace(job, ray=cluster), remove)
    assert "the input changes while it is read" in str(raised.value)


def test_more_workers_than_the_cluster_has_room_for(cluster: str, job: Job) -> None:
    with pytest.raises(InputError, match="too few processors") as raised:
        run_documents(replace(job, ray=cluster, workers=3))
    assert "--workers 2 at most" in str(raised.value)


def test_a_cluster_that_is_not_there(job: Job) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra [ray], 620 MB): make test-ray installs it")
    command = [sys.executable, "-m", "lat_export", "run", str(job.bundle), "--input", str(job.input)]
    command += ["--output", str(job.output), "--ray", "127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "the Ray cluster does not answer" in done.stderr


def worker_row(job: Job, bundle_sha256: str | None = None) -> dict[str, Any]:
    """What a worker says to the first chunk; this needs no Ray."""
    limits = limits_of(read_bundle(job.bundle))
    from lat_export.digest import file_sha256

    plan = job.source(read_bundle(job.bundle).signature).plan()
    sha256 = bundle_sha256 or file_sha256(job.bundle / "manifest.json")
    return Worker(job, limits, sha256)(asdict(plan.chunks[0]))


def test_a_worker_answers_a_chunk_and_refuses_another_bundle(job: Job) -> None:
    found = worker_row(job)
    assert (found["index"], found["error"]) == (0, "")
    assert found["spool"].count(b'"labels"') == CHUNK_ROWS
    found = worker_row(job, "0" * 64)
    assert found["spool"] == b""
    assert "another bundle lies at this path of a node" in found["error"]
    limits = limits_of(read_bundle(job.bundle))
    found = Worker(replace(job, bundle=job.input.parent), limits, "")(asdict(Chunk(3, 1, 0, 5, 0)))
    assert (found["index"], found["spool"]) == (3, b"")
    assert "not a bundle" in found["error"]


def test_without_ray_the_extra_is_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"pip install 'lat-export\[ray\]'"):
        run_documents(replace(job, ray="local"))
