"""The command line: arguments, printing, exit codes. Everything else is imported when a command needs it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lat_export import __version__
from lat_export.console import (
    print_answer,
    print_bundle,
    print_error,
    print_findings,
    print_lat_nodes,
    print_onnx,
    print_plugins,
    print_report,
    print_search,
    tell,
)
from lat_export.errors import (
    EXIT_BUG,
    EXIT_CHECK_FAILED,
    EXIT_DONE,
    EXIT_MISSING,
    InputError,
    LatExportError,
    MissingError,
)
from lat_export.tasks import TASKS
from lat_export.types import OPTIONAL_INPUTS, OPTIONAL_OUTPUTS, SEMANTICS, ModelSpec, Options, Range

if TYPE_CHECKING:
    from lat_export.divergence import Search
    from lat_export.validation.report import Report

# The names are written out so that --help loads nothing; a test compares them with the tables.
TARGET_NAMES = ("onnx", "ort", "trt", "trt-rtx")
PRECISIONS = ("fp32", "fp16", "bf16")
SEARCHED = ("model", "graph", "engine", "ort")


class RangeType(click.ParamType):  # type: ignore[type-arg]  # click before 8.5 takes no argument here
    """MIN:OPT:MAX."""

    name = "MIN:OPT:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Range:
        return value if isinstance(value, Range) else Range.parse(value)


class NamesType(click.ParamType):  # type: ignore[type-arg]
    """Names out of a list, separated by commas."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known
        self.name = ",".join(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(","))
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is not one of {', '.join(self.known)}.", param, ctx)
        return names


FOLDER = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lat-export")
def cli() -> None:
    """Take Longformer, YOSO and Nystroemformer to ONNX, ONNX Runtime and TensorRT, and prove that they agree.

    Exit codes: 0 done; 1 parity or a check failed; 2 bad usage or input; 3 something is missing; 70 a bug.
    """


@cli.command()
@click.argument("model")
@click.option("--task", type=click.Choice(list(TASKS)), help="Left out, it is read from the checkpoint.")
@click.option("--to", "target", required=True, type=click.Choice(TARGET_NAMES), help="What to make.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the bundle; it appears whole or not at all.")
@click.option("--batch", type=RangeType(), help="Batch sizes of an engine.  [default: 1:1:8]")
@click.option("--seq", "sequence", type=RangeType(), help="Lengths in tokens.  [default: 1:512:all positions]")
@click.option("--choices", type=RangeType(), help="Choices, for multiple-choice.  [default: 1:2:4]")
@click.option(
    "--max-global",
    type=click.IntRange(min=0),
    help="Most global tokens in a row, for engines.  [default: by task, 1 to 64]",
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
@click.option("--allow-pickle", is_flag=True, help="Read pickled weights (pytorch_model.bin) of a source you trust.")
@click.option("--no-validate", is_flag=True, help="Skip the comparison with PyTorch.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest and the report as JSON.")
def model(
    model: str,
    no_validate: bool,
    as_json: bool,
    semantics: str,
    hash_seed: int,
    num_hash: int | None,
    **arguments: Any,
) -> None:
    """Export MODEL, a folder written by save_pretrained or a hub id, to a bundle.

    \b
    lat-export model ./checkpoint --to onnx --out ./bundle
    lat-export model ./checkpoint --to trt-rtx --seq 1:512:4096 --out ./bundle
    """
    from lat_export.pipeline import ParityLostError, export

    options = Options(semantics=semantics, hash_seed=hash_seed, num_hash=num_hash)
    spec = ModelSpec(model=model, validate=not no_validate, options=options, **arguments)
    try:
        exported = export(spec, tell)
    except ParityLostError as error:
        _print_report(error.report, as_json, "--json prints all")
        raise
    if as_json:
        report = exported.report.to_json() if exported.report else None
        _print_json({"manifest": exported.bundle.manifest, "report": report})
        return
    print_bundle(exported.bundle)
    if exported.report:
        print_report(exported.report)
    else:
        tell("not validated: --no-validate")


@cli.command()
@click.argument("artifact", metavar="BUNDLE|ENGINE|ONNX", type=FOLDER)
@click.option("--against", type=FOLDER, help="Folder with golden tensors.  [default: the bundle's own]")
@click.option("--names", type=FOLDER, help="JSON of what an engine calls the golden's tensors, where it is otherwise.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="Of an engine.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, help="Runs that must give the same bits.  [default: 1]"
)
@click.option("--tolerances", type=FOLDER, help="JSON file of tolerances; the report holds it.")
@click.option("--bisect", type=FOLDER, metavar="OTHER", help="Find the first node that parts from OTHER: see below.")
@click.option("--layers", type=FOLDER, metavar="OTHER", help="Show the error against OTHER after every layer.")
@click.option("--of", "form", type=click.Choice(SEARCHED), default="model", show_default=True, help="What is searched.")
@click.option("--case", help="Name of the case to search.  [default: one that fails]")
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
    judge = Judge(tolerances, precision=how["precision"], repeat=how["repeat"])
    report = validate_artifact(artifact, against, names, judge, _search(**how), tell)
    if data:
        write_json(data, report)
    if page:
        write_page(page, report)
    _print_report(report, as_json, f"{data} has all" if data else "--report FILE writes all")
    if not as_json:
        print_search(report)
    if report.parity_lost:
        sys.exit(EXIT_CHECK_FAILED)


@cli.command()
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
        _print_json(found)
    else:
        print_answer(found)


@cli.command()
@click.argument("path", metavar="BUNDLE|ONNX", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def inspect(path: Path, as_json: bool) -> None:
    """Show nodes, ops, sizes, axes and attention forms of a bundle or an ONNX file."""
    from lat_export.inspection import inspect_onnx
    from lat_export.stages.bundle import read_bundle
    from lat_export.targets import PORTABLE_MODEL

    bundle = read_bundle(path) if path.is_dir() else None
    facts = inspect_onnx(path / PORTABLE_MODEL if bundle else path)
    if as_json:
        _print_json({"onnx": facts.to_json(), "manifest": bundle.manifest if bundle else None})
        return
    if bundle:
        print_bundle(bundle)
    print_onnx(facts)
    if facts.lat_nodes:
        print_lat_nodes(facts, bundle.forms if bundle else {})


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(as_json: bool) -> None:
    """Show what is installed, what is missing, what that would enable, and how to get it."""
    from lat_export.doctor import examine

    findings = examine()
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        print_findings(findings)
    if any(finding.required and not finding.present for finding in findings):
        sys.exit(EXIT_MISSING)


@cli.group()
def plugins() -> None:
    """Build, list and find the native forms of the lat ops."""


@plugins.command("build")
def plugins_build() -> None:
    """Compile the native ops of this checkout into build/plugins; needs cmake, ninja and a C++17 compiler."""
    from lat_export.native import build

    print_plugins(build(tell))


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def plugins_list(as_json: bool) -> None:
    """Show every op: its forms, element types and instruction sets, and what was left out."""
    from lat_export.native import plugins

    found = plugins()
    if as_json:
        facts = {"folder": str(found.folder), "unusable": found.unusable and str(found.unusable)} if found else {}
        _print_json({**vars(found), **facts} if found else None)
    else:
        print_plugins(found)


@plugins.command("path")
def plugins_path() -> None:
    """Print the library that SessionOptions.register_custom_ops_library takes."""
    from lat_export.native import demand_ort_library

    click.echo(demand_ort_library())


@cli.group()
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


def _search(
    bisect: Path | None, layers: Path | None, form: str, case: str | None, precision: str, **_: Any
) -> Search | None:
    from lat_export.divergence import Search

    if bisect and layers and bisect != layers:
        raise InputError("--bisect and --layers search one other side", got=f"{bisect}, {layers}")
    other = bisect or layers
    return Search(other, form, case, bool(bisect), bool(layers), precision) if other else None


def _print_report(report: Report, as_json: bool, rest: str) -> None:
    """`rest` is where to find the rows that are not printed."""
    if as_json:
        _print_json(report.to_json())
    else:
        print_report(report, rest)


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1, allow_nan=False))


def main() -> None:
    """Run the command line and exit with its code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        tell("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LatExportError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        hint = f"pip install {error.name}; `lat-export doctor` lists all that is missing"
        print_error(MissingError(f"the Python package {error.name} is missing", hint=hint))
        sys.exit(EXIT_MISSING)
    except Exception:
        traceback.print_exc()
        tell("\nThis is a bug in lat-export. Please report it with the lines above.")
        sys.exit(EXIT_BUG)
    sys.exit(EXIT_DONE)
