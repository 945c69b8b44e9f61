"""Requests a second and latency through a Triton Inference Server, against onnxruntime called in this process.

    python benchmarks/serving.py
    python benchmarks/serving.py --model small --seconds 2 --out figures.json
    python benchmarks/serving.py --page            writes only docs/triton.md, from the last result

The server is the one that `make triton-server` installs: its python backend with onnxruntime and the native ops
inside, one instance, dynamic batching as deployed. A client sends a request, waits for the answer and sends
the next; all requests of a model have one length, so all may be joined. Clients are threads of this process, on the
machine of the server, and take processor time from it. Called in process, every client is a thread that runs the same
session, with the same options, on the same file.

The table of docs/triton.md is written from the result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from export_full_size import make_checkpoint

from lat_export import native
from lat_export.deploy import Serving, deploy
from lat_export.environment import provenance
from lat_export.onnxruntime_options import default_options
from lat_export.pipeline import export
from lat_export.stages.bundle import Bundle
from lat_export.types import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from deploy.triton_client import PROTOCOLS, Arrays, Client, open_client  # noqa: E402
from deploy.triton_server import environment, serving, why_not  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "serving.json"
PAGE = ROOT / "docs" / "triton.md"
CLIENTS = (1, 8)
IN_PROCESS = "process"
WAYS = {IN_PROCESS: "onnxruntime in process", "http": "Triton, HTTP", "grpc": "Triton, gRPC"}
WARM_UP_S = 1.0
NAME = "model"


@dataclass(frozen=True)
class Model:
    """
    Attributes:
        title: what the table calls it.
        checkpoint: makes it in a folder, or says where it is.
        tokens: of a request.
    """

    title: str
    checkpoint: Callable[[Path], Path]
    tokens: int


def six_layers(folder: Path) -> Path:
    """Half the depth and half the width of the base size."""
    changes = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
    make_checkpoint("longformer", folder, "AutoModelForSequenceClassification", **changes, attention_window=256)
    return folder


MODELS = {
    "small": Model(
        "Longformer, 3 layers of 32 (golden), 128 tokens",
        lambda _: ROOT / "golden" / "longformer" / "question-answering" / "checkpoint",
        128,
    ),
    "six-layers": Model("Longformer, 6 layers of 384, window 256, 512 tokens", six_layers, 512),
}


@dataclass(frozen=True)
class Served:
    """A model and its deployment."""

    bundle: Bundle
    repository: Path
    manifest: dict[str, Any]

    def request(self, tokens: int) -> Arrays:
        """A row of tokens, the first of them global where there is such an input."""
        draw = np.random.default_rng(0)
        made = {"input_ids": draw.integers(5, 300, (1, tokens)), "attention_mask": np.ones((1, tokens), np.int64)}
        made["global_attention_mask"] = np.eye(1, tokens, dtype=np.int64)
        return {spec.name: made[spec.name] for spec in self.bundle.signature.inputs}


def served(model: Model, folder: Path) -> Served:
    checkpoint = model.checkpoint(folder / "checkpoint")
    bundle = export(ModelSpec(str(checkpoint), "ort", folder / "bundle")).bundle
    done = deploy(bundle.folder, "triton", Serving(folder / "repository", name=NAME, backend="python", text=False))
    return Served(bundle, done.folder, done.manifest)


def load(opened: Callable[[], Callable[[], Any]], count: int, seconds: float) -> dict[str, Any]:
    """What clients see that ask again and again at once, after `WARM_UP_S` that does not count.

    Args:
        opened: gives what asks once; called in the thread of every client, whose connection it is.
    """
    taken: list[list[float]] = [[] for _ in range(count)]
    barrier = threading.Barrier(count)
    failed: list[BaseException] = []

    def client(times: list[float]) -> None:
        try:
            ask = opened()
            barrier.wait()
            until = time.perf_counter() + WARM_UP_S
            while time.perf_counter() < until:
                ask()
            until = time.perf_counter() + seconds
            while (before := time.perf_counter()) < until:
                ask()
                times.append(time.perf_counter() - before)
        except BaseException as error:
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=client, args=(times,)) for times in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    ms = sorted(1e3 * one for times in taken for one in times)
    return {
        "requests": len(ms),
        # Of each client by its own clock: the last request of one may end after those of the others.
        "requests_per_s": round(sum(len(times) / sum(times) for times in taken), 1),
        "p50_ms": round(statistics.median(ms), 3),
        "p99_ms": round(ms[int(0.99 * (len(ms) - 1))], 3),
    }


def in_process(one: Served, request: Arrays, seconds: float) -> tuple[list[Any], list[dict[str, Any]]]:
    """On the files that the server has: the answer, and the figures. The session is gone afterwards: its threads would
    spin on beside the server's."""
    file = one.repository / one.manifest["model_file"]
    options = default_options()
    for library in one.manifest["libraries"]:
        options.register_custom_ops_library(str(file.parent / library))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    rows = [
        {"way": IN_PROCESS, "clients": count, **load(lambda: lambda: session.run(None, request), count, seconds)}
        for count in CLIENTS
    ]
    return list(session.run(None, request)), rows


def measure(model: Model, one: Served, scratch: Path, seconds: float) -> Iterator[dict[str, Any]]:
    request = one.request(model.tokens)
    common = {"title": model.title, "tokens": model.tokens}
    wanted, rows = in_process(one, request, seconds)
    yield from ({**common, **row} for row in rows)
    with serving(one.repository, scratch) as server:
        for protocol in PROTOCOLS:
            for count in CLIENTS:
                figures = through(partial(open_client, server, protocol), count, request, wanted, seconds)
                yield {**common, "way": protocol, "clients": count, **figures}


def through(
    opened: Callable[[], Client], count: int, request: Arrays, wanted: list[Any], seconds: float
) -> dict[str, Any]:
    """The server's figures, once its answer is the one that onnxruntime gives in process."""

    def asking() -> Callable[[], Any]:
        client = opened()
        return lambda: client.infer(NAME, request)

    first = opened()
    for found, other in zip(first.infer(NAME, request).values(), wanted, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-5)
    before = first.batches(NAME)
    figures = load(asking, count, seconds)
    after = first.batches(NAME)
    rows_per_run = round((after.rows - before.rows) / (after.runs - before.runs), 2)
    return {**figures, "rows_per_run": rows_per_run, "triton": first.version()}


def table(results: dict[str, Any]) -> str:
    """In Markdown, and what it was measured on."""
    head = ("model", "way", "clients", "requests/s", "p50", "p99", "requests", "rows a run")
    lines = [head, ("---",) * len(head)]
    for row in results["rows"]:
        lines.append(
            (
                row["title"],
                WAYS[row["way"]],
                str(row["clients"]),
                f"{row['requests_per_s']:.1f}",
                f"{row['p50_ms']:.1f} ms",
                f"{row['p99_ms']:.1f} ms",
                str(row["requests"]),
                str(row.get("rows_per_run", "-")),
            )
        )
    machine, versions = results["machine"], results["versions"]
    measured = (
        f"Measured on: {machine['processor']} ({results['instruction_set']}), {machine['cores']} cores, "
        f"onnxruntime {versions['onnxruntime']}, Triton {results['rows'][-1]['triton']} of nvidia-pytriton "
        f"{results['server']['nvidia-pytriton']}, commit {results['commit'][:7]}."
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{measured}"


def with_table(text: str, results: dict[str, Any]) -> str:
    """The page with its table made anew."""
    begin, end = "<!-- begin: serving -->", "<!-- end: serving -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{table(results)}\n{end}{rest.split(end)[1]}"


def write_page(result: Path) -> None:
    PAGE.write_text(with_table(PAGE.read_text(), json.loads(result.read_text())))


def server_versions() -> dict[str, str]:
    """Of what the server's environment holds."""
    folder = next(environment().glob("lib/python3*/site-packages"))
    found = {}
    for name in ("nvidia-pytriton", "onnxruntime", "numpy"):
        (metadata,) = folder.glob(f"{name.replace('-', '_')}-*.dist-info")
        found[name] = metadata.name.removesuffix(".dist-info").rpartition("-")[2]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated; default all")
    parser.add_argument("--seconds", type=float, default=8.0, help="of every way with every number of clients")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--page", action="store_true", help="only write docs/triton.md")
    arguments = parser.parse_args()
    if arguments.page:
        write_page(arguments.out)
        return
    if reason := why_not():
        sys.exit(reason)
    rows = []
    plugins = native.plugins()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        made = {name: served(MODELS[name], scratch / name) for name in arguments.model or MODELS}
        print("made; measuring", flush=True)
        before = os.getloadavg()
        for name, one in made.items():
            for row in measure(MODELS[name], one, scratch, arguments.seconds):
                rows.append({"model": name, **row})
                print(rows[-1], flush=True)
    results = {
        **provenance(),
        "server": server_versions(),
        "instruction_set": plugins.arch if plugins else None,
        "seconds": arguments.seconds,
        "load_average": {"before": before, "after": os.getloadavg()},
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(arguments.out)
    if arguments.out == RESULT:
        write_page(RESULT)


if __name__ == "__main__":
    main()
