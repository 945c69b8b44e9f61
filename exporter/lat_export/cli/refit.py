"""`lat-export refit`."""

from __future__ import annotations

from pathlib import Path

import click

from lat_export.cli.options import FOLDER
from lat_export.console import tell


@click.command()
@click.argument("engine", type=FOLDER)
@click.argument("checkpoint")
@click.option(
    "--out", required=True, type=FOLDER, help="File of the engine with weights; it appears whole or not at all."
)
@click.option("--allow-pickle", is_flag=True, help="Read pickled weights (pytorch_model.bin) of a source you trust.")
def refit(engine: Path, checkpoint: str, out: Path, allow_pickle: bool) -> None:
    """Put the weights of CHECKPOINT into ENGINE, which lat-export model built with --strip-weights or --refittable.

    An engine that was built with --strip-weights alone takes the checkpoint that it was built from; with --refittable
    it takes any of the same architecture. It needs a GPU; that the two fit is checked before.

    \b
    lat-export refit bundle/model.trt.engine ./checkpoint --out model.engine
    lat-export validate model.engine --against bundle
    """
    from lat_export.refitting import refit as put_in

    done = put_in(engine, checkpoint, out, allow_pickle=allow_pickle, tell=tell)
    click.echo(f"{done.out}: {done.bytes} bytes, by {done.library}")
    tell(f"next: lat-export validate {done.out} --against {engine.parent}")
