"""`lat-export golden`: make, check, to-polygraphy, from-polygraphy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lat_export.cli.options import FOLDER, PRECISIONS, NamesType
from lat_export.console import tell
from lat_export.tasks import TASKS
from lat_export.types import OPTIONAL_INPUTS, OPTIONAL_OUTPUTS, SEMANTICS, ModelSpec, Options


@click.group()
def golden() -> None:
    """Make, check and convert golden tensors: inputs, and what PyTorch computes from them."""


@golden.command("make")
@click.argument("model", metavar="MODEL|RECIPE")
@click.option("--out", type=FOLDER, help="Folder to write; needed for MODEL.  [default of RECIPE: its own folder]")
@click.option("--task", type=click.Choice(list(TASKS)), help="Left out, it is read from the checkpoint.")
@click.option("--texts", type=FOLDER, help="File of one text a line, or of JSON lines; see above.")
@click.option("--arrays", type=FOLDER, multiple=True, help=".npz file, one call: arrays by input name. Repeatable.")
@click.option("--inputs", type=NamesType(OPTIONAL_INPUTS), default=(), help="Optional inputs, separated by commas.")
@click.option("--outputs", type=NamesType(OPTIONAL_OUTPUTS), default=(), help="hidden_states, attentions, or both.")
@click.option("--semantics", type=click.Choice(SEMANTICS), default="hf", show_default=True, help="As for an export.")
@click.option("--hash-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of YOSO's hashes.")
@click.option("--num-hash", type=click.IntRange(min=1), help="Hashes of sampled YOSO.  [default: the config's]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of what is to be compared with them: how far hash codes of sampled YOSO may flip. PyTorch computes in fp32.",
)
@click.option("--all-rows", is_flag=True, help="Keep every position, also where a case's outputs are over 16 MiB.")
@click.option("--allow-pickle", is_flag=True, help="Read pickled weights (pytorch_model.bin) of a source you trust.")
@click.option("--force", is_flag=True, help="Replace existing golden tensors.")
@click.pass_context
def golden_make(
    context: click.Context,
    /,
    model: str,
    out: Path | None,
    texts: Path | None,
    arrays: tuple[Path, ...],
    semantics: str,
    hash_seed: int,
    num_hash: int | None,
    all_rows: bool,
    **arguments: Any,
) -> None:
    """Write the golden tensors of MODEL, a folder written by save_pretrained or a hub id; it needs PyTorch.

    The cases are a table of lengths, paddings and global tokens, or, with --texts or --arrays, your own. Texts go
    through the checkpoint's tokenizer, with the task's default global tokens, as `lat-export run` does it. A JSON line
    is {"text": "..."}, for question-answering with "question", for multiple-choice with "choices", a list.

    RECIPE is a folder with recipe.json: its small checkpoints are made, and their golden tensors; it takes only --out.

    \b
    lat-export golden make ./checkpoint --texts questions.jsonl --out ./golden
    lat-export validate ./bundle --against ./golden
    """
    options = Options(semantics=semantics, hash_seed=hash_seed, num_hash=num_hash)
    if (Path(model) / "recipe.json").is_file():
        _only_out(context)
        from lat_export.recipes import make_goldens

        make_goldens(Path(model), out or Path(model), tell)
        return
    if out is None:
        raise click.UsageError("golden make MODEL needs --out; only for a folder with recipe.json it may be left out.")
    from lat_export.goldens import make_golden

    spec = ModelSpec(model=model, target="onnx", out=out, options=options, **arguments)
    made = make_golden(spec, texts, arrays, all_rows=all_rows, tell=tell)
    click.echo(f"{out}: {len(made)} cases")


def _only_out(context: click.Context) -> None:
    """A recipe says all that it makes."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in ("model", "out")
        and parameter.name
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"A folder with recipe.json takes no {given[0]}: the recipe says all that it makes.")


@golden.command("check")
@click.argument("folder", type=FOLDER)
@click.option("--model", help="Checkpoint that they were made from.  [default: a folder `checkpoint` beside each]")
def golden_check(folder: Path, model: str | None) -> None:
    """Check the digests of all golden tensors below FOLDER, and of their checkpoint's config and weights."""
    from lat_export.goldens import check_goldens

    for line in check_goldens(folder, model):
        click.echo(line)


@golden.command("to-polygraphy")
@click.argument("golden_folder", metavar="GOLDEN", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--force", is_flag=True, help="Replace files that this command wrote.")
def golden_to_polygraphy(golden_folder: Path, out: Path, force: bool) -> None:
    """Write GOLDEN, a folder of golden tensors or a bundle, as Polygraphy's inputs.json and outputs.json in OUT.

    Cases of which only some positions were kept are left out: Polygraphy compares whole outputs.

    \b
    lat-export golden to-polygraphy ./bundle ./files
    polygraphy run ./bundle/model.onnx --onnxrt --load-inputs ./files/inputs.json --load-outputs ./files/outputs.json
    """
    from lat_export.conversion import to_polygraphy

    count = to_polygraphy(golden_folder, out, force=force, tell=tell)
    click.echo(f"{out}: {count} cases in inputs.json and outputs.json")


@golden.command("from-polygraphy")
@click.option("--load-inputs", "inputs", required=True, type=FOLDER, help="What polygraphy run --save-inputs wrote.")
@click.option("--load-outputs", "outputs", required=True, type=FOLDER, help="What polygraphy run --save-outputs wrote.")
@click.option("--like", required=True, type=FOLDER, help="Bundle or golden tensors of the same inputs and outputs.")
@click.option("--runner", help="Whose outputs to take, where there are several.")
@click.option("--out", required=True, type=FOLDER, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace existing golden tensors.")
def golden_from_polygraphy(inputs: Path, outputs: Path, like: Path, runner: str | None, out: Path, force: bool) -> None:
    """Write what a runner of Polygraphy computed as golden tensors, for `lat-export validate --against`.

    \b
    polygraphy run model.onnx --trt --save-inputs in.json --save-outputs out.json
    lat-export golden from-polygraphy --load-inputs in.json --load-outputs out.json --like ./bundle --out ./golden
    """
    from lat_export.conversion import from_polygraphy

    made = from_polygraphy(inputs, outputs, like, out, runner=runner, force=force)
    click.echo(f"{out}: {len(made)} cases")
