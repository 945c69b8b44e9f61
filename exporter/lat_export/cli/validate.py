"""`lat-export validate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lat_export.cli.options import FOLDER, PRECISIONS, SEARCHED
from lat_export.cli.output import show_report
from lat_export.console import print_search, tell
from lat_export.errors import EXIT_CHECK_FAILED, InputError

if TYPE_CHECKING:
    from lat_export.divergence import Search


@click.command()
@click.argument("artifact", metavar="BUNDLE|ENGINE|ONNX", type=FOLDER)
@click.option("--against", type=FOLDER, help="Folder with golden tensors.  [default: the bundle's own]")
@click.option("--names", type=FOLDER, help="JSON of what an engine calls the golden's tensors, where it is otherwise.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of an engine or ONNX file.  [default: fp32]")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, help="Runs that must give the same bits.  [default: 1]"
)
@click.option("--tolerances", type=FOLDER, help="JSON file of tolerances; the report holds it.")
@click.option("--bisect", type=FOLDER, metavar="OTHER", help="Find the first node that parts from OTHER: see below.")
@click.option("--layers", type=FOLDER, metavar="OTHER", help="Show the error against OTHER after every layer.")
@click.option("--of", "form", type=click.Choice(SEARCHED), default="model", show_default=True, help="What is searched.")
@click.option("--case", help="Name of the case to search.  [default: one that fails]")
@click.option("--runtime-cache", type=FOLDER, help="For TensorRT-RTX: file of what the engine's first run compiles.")
@click.option("--html", "page", type=FOLDER, metavar="FILE", help="Write the report there, to read in a browser.")
@click.option("--report", "data", type=FOLDER, metavar="FILE", help="Write the report there, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def validate(
    artifact: Path,
    against: Path | None,
    names: Path | None,
    page: Path | None,
    data: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Compare what a bundle, an engine or an ONNX file computes with PyTorch's golden tensors.

    A bundle is checked by its own golden tensors, and by its digests. An engine or ONNX file that came from elsewhere
    needs --against. OTHER is a checkpoint, which PyTorch computes, another bundle, or an ONNX file of the same export.
    --of ort searches what onnxruntime runs with the native ops, so a wrong kernel is found at its node.

    \b
    lat-export validate ./bundle --repeat 3 --html report.html
    lat-export validate ./bundle --bisect ./checkpoint
    lat-export validate ./bundle --bisect ./checkpoint --of ort
    lat-export validate ./model.plan --against ./golden --names names.json --precision fp16
    """
    from lat_export.revalidation import validate_artifact
    from lat_export.validation.check import Judge
    from lat_export.validation.report_file import demand_places, write_json, write_page
    from lat_export.validation.tolerance import Tolerances

    demand_places({"--html": page, "--report": data}, artifact)
    tolerances = Tolerances.read(how["tolerances"]) if how["tolerances"] else Tolerances()
    judge = Judge(tolerances, precision=how["precision"] or "fp32", repeat=how["repeat"])
    report = validate_artifact(artifact, against, names, judge, _search(**how), tell, how["runtime_cache"])
    if data:
        write_json(data, report)
    if page:
        write_page(page, report)
    show_report(report, as_json, f"{data} has all" if data else "--report FILE writes all")
    if not as_json:
        print_search(report)
    if report.parity_lost:
        sys.exit(EXIT_CHECK_FAILED)


def _search(
    bisect: Path | None, layers: Path | None, form: str, case: str | None, precision: str | None, **_: Any
) -> Search | None:
    from lat_export.divergence import Search

    if bisect and layers and bisect != layers:
        raise InputError("--bisect and --layers search one other side", got=f"{bisect}, {layers}")
    other = bisect or layers
    return Search(other, form, case, bool(bisect), bool(layers), precision or "fp32") if other else None
