"""`lat-export run`."""

from __future__ import annotations

from pathlib import Path

import click

from lat_export.cli.options import FOLDER
from lat_export.cli.output import print_json
from lat_export.console import print_answer


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--text", required=True, help="What to read; for question-answering the document.")
@click.option("--question", help="What to ask of the text.")
@click.option("--choice", "choices", multiple=True, help="One choice of multiple-choice; give it once for each.")
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="How many answers to rank.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def run(bundle: Path, text: str, question: str | None, choices: tuple[str, ...], top_k: int, as_json: bool) -> None:
    """Run text through BUNDLE in onnxruntime and print the answer.

    \b
    lat-export run ./bundle --text "A document." --question "What is it?"
    """
    from lat_export.inference import Request, answer

    found = answer(bundle, Request(text, question, choices, top_k))
    if as_json:
        print_json(found)
    else:
        print_answer(found)
