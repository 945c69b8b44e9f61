"""`lat-export run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lat_export.cli.options import FOLDER
from lat_export.cli.output import print_json
from lat_export.console import documents_progress, print_answer, print_documents, tell
from lat_export.errors import EXIT_CHECK_FAILED

# What each of the two ways of `run` takes of its own.
OF_ONE = {"text": "--text", "question": "--question", "choices": "--choice"}
OF_FILES = {
    "output": "--output",
    "kept": "--keep",
    "max_batch": "--max-batch",
    "batch_tokens": "--batch-tokens",
    "threads": "--threads",
    "ray": "--ray",
    "workers": "--workers",
    "restart": "--restart",
    "force": "--force",
}


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--text", help="What to read; for question-answering the document.")
@click.option("--question", help="What to ask of the text.")
@click.option("--choice", "choices", multiple=True, help="One choice of multiple-choice; give it once for each.")
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="How many answers to rank.")
@click.option("--input", type=FOLDER, metavar="FILE.jsonl|.parquet", help="Many documents, in place of --text.")
@click.option("--output", type=FOLDER, metavar="FILE.jsonl|.parquet", help="Their answers; it appears when whole.")
@click.option("--keep", "kept", multiple=True, metavar="FIELD", help="A field of every row to copy. Repeatable.")
@click.option("--max-batch", type=click.IntRange(min=1), help="Most rows of a batch.  [default: 64, or what may be]")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Most tokens of a batch.  [default: 4096]")
@click.option("--threads", type=click.IntRange(min=1), help="Of each model.  [default: all processors; 1 on Ray]")
@click.option("--ray", metavar="ADDRESS|local", help="Answer on a Ray cluster.")
@click.option("--workers", type=click.IntRange(min=1), help="Models at once on Ray.  [default: as many as fit]")
@click.option("--restart", is_flag=True, help="Drop what an unfinished run has done.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer, or the summary, as JSON.")
def run(bundle: Path, top_k: int, as_json: bool, **arguments: Any) -> None:
    """Run text through BUNDLE in onnxruntime and print the answer, or a file of documents and write the answers.

    \b
    lat-export run ./bundle --text "A document." --question "What is it?"
    lat-export run ./bundle --input documents.jsonl --output answers.jsonl --keep id

    A line of the input is a JSON object with "text", for question-answering with "question", for multiple-choice with
    "choices", a list; of a Parquet file these are columns. Other fields do not matter. A line of the output is the
    answer as --json prints it, with the number of its row ("row", from 1; blank lines count), in the input's order.
    Rows that cannot be answered go to OUTPUT.bad.jsonl with the reason.

    A run that was killed goes on where it stopped when the same command is given again.

    Exit codes with --input: 0 every row has its answer; 1 some rows are bad, the others have theirs; 2 and 3 as always,
    and there is no output.
    """
    single = [option for name, option in OF_ONE.items() if arguments[name]]
    files = [option for name, option in OF_FILES.items() if arguments[name]]
    given = arguments.pop("input")
    if given is None:
        if files:
            raise click.UsageError(f"{files[0]} goes with --input.")
        if arguments["text"] is None:
            raise click.UsageError("Give --text, or --input and --output.")
        _answer(bundle, top_k, as_json, *(arguments[name] for name in OF_ONE))
        return
    if single:
        raise click.UsageError(f"{single[0]} does not go with --input: rows bring their own.")
    if arguments["output"] is None:
        raise click.UsageError("--input needs --output.")
    if arguments["workers"] and not arguments["ray"]:
        raise click.UsageError("--workers goes with --ray.")
    _answer_file(as_json, bundle=bundle, input=given, top_k=top_k, **{name: arguments[name] for name in OF_FILES})


def _answer(bundle: Path, top_k: int, as_json: bool, text: str, question: str | None, choices: tuple[str, ...]) -> None:
    from lat_export.inference import Request, answer

    found = answer(bundle, Request(text, question, choices, top_k))
    if as_json:
        print_json(found)
    else:
        print_answer(found)


def _answer_file(as_json: bool, **arguments: Any) -> None:
    from lat_export.documents import Job, run_documents

    job = Job(**arguments)
    try:
        with documents_progress() as report:
            summary = run_documents(job, report)
    except KeyboardInterrupt:
        tell("stopped; the same command goes on from here")
        raise
    if as_json:
        print_json(summary.to_json())
    else:
        print_documents(summary)
    if summary.bad:
        sys.exit(EXIT_CHECK_FAILED)
