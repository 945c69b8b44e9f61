"""`lat-export inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from lat_export.cli.options import FOLDER
from lat_export.cli.output import print_json
from lat_export.console import print_bundle, print_engine, print_lat_nodes, print_onnx


@click.command()
@click.argument("path", metavar="BUNDLE|ONNX|ENGINE", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def inspect(path: Path, as_json: bool) -> None:
    """Show nodes, ops, sizes, axes and attention forms of a bundle or an ONNX file; of an engine bindings, profiles,
    layers by precision, plugins and memory."""
    from lat_export.engine_inspection import inspect_engine, is_engine
    from lat_export.inspection import inspect_onnx
    from lat_export.stages.bundle import read_bundle
    from lat_export.targets import PORTABLE_MODEL

    if is_engine(path):
        engine = inspect_engine(path)
        if as_json:
            print_json({"engine": engine.to_json()})
        else:
            print_engine(engine)
        return
    bundle = read_bundle(path) if path.is_dir() else None
    facts = inspect_onnx(path / PORTABLE_MODEL if bundle else path)
    if as_json:
        print_json({"onnx": facts.to_json(), "manifest": bundle.manifest if bundle else None})
        return
    if bundle:
        print_bundle(bundle)
    print_onnx(facts)
    if facts.lat_nodes:
        print_lat_nodes(facts, bundle.forms if bundle else {})
