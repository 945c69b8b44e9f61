"""`lat-export model`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lat_export.cli.engine_options import engine_options, taken_from
from lat_export.cli.options import FOLDER, PRECISIONS, TARGET_NAMES, NamesType, RangeType, parts_type, profile_type
from lat_export.cli.output import print_json, show_report
from lat_export.console import print_bundle, print_dry_run, print_report, tell
from lat_export.errors import EXIT_CHECK_FAILED
from lat_export.tasks import TASKS
from lat_export.types import OPTIONAL_INPUTS, OPTIONAL_OUTPUTS, SEMANTICS, ModelSpec, Options


@click.command()
@click.argument("model")
@click.option("--task", type=click.Choice(list(TASKS)), help="Left out, it is read from the checkpoint.")
@click.option("--to", "target", required=True, type=click.Choice(TARGET_NAMES), help="What to make.")
@click.option("--out", type=FOLDER, help="Folder of the bundle; it appears whole or not at all.")
@click.option("--batch", type=RangeType(), help="Batch sizes of an engine.  [default: 1:1:8]")
@click.option("--seq", "sequence", type=RangeType(), help="Lengths in tokens.  [default: 1:512:all positions]")
@click.option("--choices", type=RangeType(), help="Choices, for multiple-choice.  [default: 1:2:4]")
@click.option(
    "--profile",
    "profiles",
    type=profile_type(),
    metavar="batch=MIN:OPT:MAX,seq=...",
    multiple=True,
    help="In place of those three: sizes that an engine is tuned for; again for each further profile.",
)
@click.option(
    "--max-global",
    type=click.IntRange(min=0),
    help="Most global tokens in a row, for engines.  [default: by task, 1 to 64]",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of weights and activations; what half precision would spoil stays fp32.",
)
@click.option(
    "--keep-fp32",
    type=parts_type(),
    metavar="auto|none|PART,...",
    help="Parts that stay fp32 in half precision, as layer.0 or head.  [default: auto, those that parity needs]",
)
@click.option("--inputs", type=NamesType(OPTIONAL_INPUTS), default=(), help="Optional inputs, separated by commas.")
@click.option("--outputs", type=NamesType(OPTIONAL_OUTPUTS), default=(), help="hidden_states, attentions, or both.")
@click.option(
    "--semantics",
    type=click.Choice(SEMANTICS),
    default="hf",
    show_default=True,
    help="As transformers computes it, or as the paper means it, where the two differ.",
)
@click.option("--hash-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of YOSO's hashes.")
@click.option("--num-hash", type=click.IntRange(min=1), help="Hashes of sampled YOSO.  [default: the config's]")
@engine_options
@click.option("--kit", is_flag=True, help="With --to trt: a folder that builds the engine where TensorRT is, not here.")
@click.option("--allow-pickle", is_flag=True, help="Read pickled weights (pytorch_model.bin) of a source you trust.")
@click.option("--no-validate", is_flag=True, help="Skip the comparison with PyTorch.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--dry-run", is_flag=True, help="Tell whether an engine would build, and write nothing; see above.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest and the report as JSON.")
def model(
    model: str,
    out: Path | None,
    dry_run: bool,
    no_validate: bool,
    as_json: bool,
    semantics: str,
    hash_seed: int,
    num_hash: int | None,
    **arguments: Any,
) -> None:
    """Export MODEL, a folder written by save_pretrained or a hub id, to a bundle.

    With --dry-run, for trt and trt-rtx: tell, node by node, whether the engine would build; it needs neither TensorRT
    nor a GPU. MODEL may then also be a bundle or an ONNX file, and --out is left out. Exit code 1: it would not.

    \b
    lat-export model ./checkpoint --to onnx --out ./bundle
    lat-export model ./checkpoint --to trt-rtx --seq 1:512:4096 --out ./bundle
    lat-export model ./checkpoint --to trt --seq 1:512:4096 --dry-run
    lat-export model ./checkpoint --to trt --kit --out ./kit
    """
    arguments["engine"] = taken_from(arguments)
    options = Options(semantics=semantics, hash_seed=hash_seed, num_hash=num_hash)
    if dry_run:
        # Nothing is written there.
        _dry_run(ModelSpec(model=model, out=out or Path(), options=options, **arguments), as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'. Only a --dry-run goes without.")
    from lat_export.pipeline import ParityLostError, export

    spec = ModelSpec(model=model, out=out, validate=not no_validate, options=options, **arguments)
    try:
        exported = export(spec, tell)
    except ParityLostError as error:
        show_report(error.report, as_json, "--json prints all")
        raise
    if as_json:
        report = exported.report.to_json() if exported.report else None
        print_json({"manifest": exported.bundle.manifest, "report": report})
        return
    print_bundle(exported.bundle)
    if exported.report:
        print_report(exported.report)
    else:
        tell("not validated: --no-validate")
    if spec.kit:
        tell(f"next, on the machine with TensorRT: copy {spec.out} there and run its build.sh")


def _dry_run(spec: ModelSpec, as_json: bool) -> None:
    from lat_export.dry_run import dry_run

    found = dry_run(spec, tell)
    if as_json:
        print_json(found.to_json())
    else:
        print_dry_run(found)
    if not found.works:
        sys.exit(EXIT_CHECK_FAILED)
