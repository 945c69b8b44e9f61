"""Documents a second of `lat-export run --input`: batches by length against one row at a time and against batches in
the input's order; and on one Ray worker against two.

    python benchmarks/documents.py
    python benchmarks/documents.py --no-ray

The models are of middle size (4 layers, hidden 256, random weights) with the golden checkpoints' tokenizer. Lengths are
log-normal, as those of documents are, and cut at what the models take; median and longest are in the result. Every way
answers the same documents on the same open model, all in turn in every round; the first round does not count. YOSO has
no batches in the input's order: padding would change its answers.

On Ray each worker has one thread. The whole command is timed, and its rate from the first chunk that came back to the
last, which leaves out what it takes to start. Chunks are of 32 KiB here, so that a short file has enough of them.
Figures go to results/documents.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export_full_size import RESULTS, make_checkpoint

from lat_export.documents import Job, Progress, jsonl_source, run_documents
from lat_export.documents.answering import Answering, Tokenised, batches, limits_of, open_answering
from lat_export.documents.rows import Fields, Row, read_row
from lat_export.environment import provenance
from lat_export.pipeline import export
from lat_export.stages.bundle import read_bundle
from lat_export.types import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
TASK = "text-classification"
SIZES = {
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": 1026,
    "vocab_size": 384,
}
MODELS: dict[str, dict[str, Any]] = {
    "longformer": {"attention_window": 64},
    "yoso": {"use_expectation": True},
}
RAY_CHUNK_BYTES, RAY_TIMES = 1 << 15, 5
MEDIAN_WORDS, SPREAD, MOST_WORDS = 75, 0.8, 330


def documents(count: int) -> list[dict[str, Any]]:
    chosen = random.Random(11)
    corpus = json.loads((ROOT / "golden" / "longformer" / "recipe.json").read_text())["tokenizer"]["corpus"]
    words = " ".join(corpus).split()
    lengths = [min(MOST_WORDS, max(3, round(MEDIAN_WORDS * math.exp(chosen.gauss(0, SPREAD))))) for _ in range(count)]
    return [{"text": " ".join(chosen.choices(words, k=length))} for length in lengths]


def bundle_of(family: str, folder: Path) -> Path:
    checkpoint, out = folder / f"{family}-checkpoint", folder / family
    make_checkpoint(family, checkpoint, "AutoModelForSequenceClassification", **{**SIZES, **MODELS[family]})
    golden = ROOT / "golden" / family / TASK / "checkpoint"
    for path in golden.glob("tokenizer*"):
        shutil.copyfile(path, checkpoint / path.name)
    export(ModelSpec(str(checkpoint), "ort", out, task=TASK, validate=False))
    return out


def one_at_a_time(rows: Sequence[Tokenised], _: Answering) -> Iterator[list[Tokenised]]:
    yield from ([row] for row in rows)


def by_length(rows: Sequence[Tokenised], opened: Answering) -> Iterator[list[Tokenised]]:
    yield from batches(rows, opened.limits)


def as_they_come(rows: Sequence[Tokenised], opened: Answering) -> Iterator[list[Tokenised]]:
    """Of the same limits, but in the input's order, and padded to whichever is the longest."""
    batch: list[Tokenised] = []
    for row in rows:
        longest = max(one.tokens for one in (*batch, row))
        if batch and (len(batch) + 1) * longest > opened.limits.tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch


WAYS: dict[str, Callable[[Sequence[Tokenised], Answering], Iterator[list[Tokenised]]]] = {
    "one row at a time": one_at_a_time,
    "batches in the input's order": as_they_come,
    "batches by length": by_length,
}


def measure(bundle_folder: Path, found: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Of each way: seconds of every round, batches, tokens with and without padding."""
    bundle = read_bundle(bundle_folder)
    read = [row for n, one in enumerate(found, 1) if isinstance(row := read_row(n, one, Fields(TASK)), Row)]
    ways: dict[str, dict[str, Any]] = {}
    with open_answering(bundle, limits_of(bundle)) as opened:
        rows, bad = opened.tokenised(read)
        assert not bad
        for one in range(rounds + 1):
            for name, cut in WAYS.items():
                if name == "batches in the input's order" and opened.limits.similar == 1:
                    continue  # it would change the answers
                cuts = list(cut(rows, opened))
                started = time.perf_counter()
                for batch in cuts:
                    opened.answer(batch)
                seconds = time.perf_counter() - started
                padded = sum(len(batch) * max(row.tokens for row in batch) for batch in cuts)
                way = ways.setdefault(name, {"batches": len(cuts), "tokens_with_padding": padded, "seconds": []})
                if one:
                    way["seconds"].append(round(seconds, 3))
    for way in ways.values():
        way["documents_per_s"] = round(len(found) / statistics.median(way["seconds"]), 2)
    first = ways["one row at a time"]["documents_per_s"]
    for way in ways.values():
        way["over_one_at_a_time"] = round(way["documents_per_s"] / first, 2)
    lengths = sorted(row.tokens for row in rows)
    middle, longest = lengths[len(lengths) // 2], lengths[-1]
    return {
        "tokens": {"all": sum(lengths), "median": middle, "longest": longest},
        "similar": opened.limits.similar,
        "ways": ways,
    }


def on_ray(bundle: Path, given: Path, count: int) -> dict[str, Any]:
    """The whole command, and from the first chunk that came back to the last."""
    import ray

    jsonl_source.CHUNK_BYTES = RAY_CHUNK_BYTES
    found: dict[str, Any] = {"ray": ray.__version__, "documents": count, "chunk_bytes": RAY_CHUNK_BYTES}
    for workers in (0, 1, 2):
        marks: list[tuple[float, int]] = []

        def mark(progress: Progress, marks: list[tuple[float, int]] = marks) -> None:
            marks.append((time.perf_counter(), progress.done))

        job = Job(bundle, given, given.with_name(f"{workers}.jsonl"), threads=1)
        summary = run_documents(replace(job, ray="local", workers=workers) if workers else job, mark)
        assert summary.answered == count
        # The first one tells of the plan; without Ray every batch is told of.
        (first, before), (last, done) = marks[1], marks[-1]
        found[f"{workers} workers" if workers else "no Ray, one thread"] = {
            "seconds": summary.seconds,
            "documents_per_s": round(count / summary.seconds, 2),
            "documents_per_s_after_the_first_chunk": round((done - before) / (last - first), 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-ray", action="store_true", help="leave out the workers; a figure of before is kept")
    parser.add_argument("--only-ray", action="store_true", help="leave out the batches; figures of before are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "documents.json")
    arguments = parser.parse_args()
    before = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    found = documents(arguments.documents)
    results: dict[str, Any] = {**before, **provenance(), "sizes": SIZES, "documents": len(found)}
    results["load_average_before"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        for family in MODELS if not arguments.only_ray else ():
            results[family] = measure(bundle_of(family, Path(scratch)), found, arguments.rounds)
            print(family, json.dumps(results[family], indent=1), flush=True)
        if not arguments.no_ray:
            given = Path(scratch) / "documents.jsonl"
            given.write_text("".join(json.dumps(row) + "\n" for row in RAY_TIMES * found))
            results["ray"] = on_ray(bundle_of("longformer", Path(scratch) / "ray"), given, RAY_TIMES * len(found))
            print("ray", json.dumps(results["ray"], indent=1), flush=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
