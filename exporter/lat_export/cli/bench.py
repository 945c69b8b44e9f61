"""`lat-export bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lat_export.cli.options import FOLDER
from lat_export.console import print_bench, tell
from lat_export.errors import EXIT_CHECK_FAILED
from lat_export.tasks import TASKS


class SizesType(click.ParamType):  # type: ignore[type-arg]  # click before 8.5 takes no argument here
    """Whole numbers of at least 1, separated by commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers of at least 1.", param, ctx)
        return tuple(int(part) for part in parts)


def _all_sizes(_context: click.Context, _parameter: click.Parameter, lists: tuple[tuple[int, ...], ...]) -> list[int]:
    return [size for sizes in lists for size in sizes]


def _plot_file(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in (".svg", ".png"):
        raise click.BadParameter(f"{path} ends in neither .svg nor .png.")
    return path


@click.command()
@click.argument("what", metavar="BUNDLE|MODEL")
@click.option("--subject", "subjects", multiple=True, help="What to measure, of the list above. Repeatable.")
@click.option("--peer", "peers", type=FOLDER, multiple=True, metavar="FILE.onnx", help="Another's export. Repeatable.")
@click.option("--baseline", help="What others are compared with.  [default: the fastest in PyTorch, else the first]")
@click.option("--checkpoint", help="What a bundle was made from, for PyTorch.  [default: as the bundle's golden says]")
@click.option("--task", type=click.Choice(list(TASKS)), help="Of MODEL. Left out, it is read from the checkpoint.")
@click.option("--tokens", type=SizesType(), multiple=True, callback=_all_sizes, help="Lengths.  [default: 512 to 4096]")
@click.option("--batch", "batches", type=SizesType(), multiple=True, callback=_all_sizes, help="Batches.  [default: 1]")
@click.option(
    "--globals", "global_tokens", type=click.IntRange(min=0), help="Global tokens in a row.  [default: task's]"
)
@click.option("--threads", type=click.IntRange(min=1), help="Of every subject.  [default: all processors]")
@click.option(
    "--repeat", type=click.IntRange(min=1), help="Rounds.  [default: 5 to 30; 3 where a run takes more than 5 s]"
)
@click.option("--warm-up", type=click.IntRange(min=1), default=1, show_default=True, help="Runs that do not count.")
@click.option("--no-profile", is_flag=True, help="Leave out the further run that gives the time of each op.")
@click.option("--allow-pickle", is_flag=True, help="Read pickled weights (pytorch_model.bin) of a source you trust.")
@click.option("--json", "data", type=FOLDER, metavar="FILE", help="Write all there, every repetition too.")
@click.option("--plot", type=FOLDER, metavar="FILE.svg|.png", callback=_plot_file, help="Draw seconds against tokens.")
def bench(
    what: str,
    subjects: tuple[str, ...],
    peers: tuple[Path, ...],
    baseline: str | None,
    checkpoint: str | None,
    task: str | None,
    tokens: list[int],
    batches: list[int],
    global_tokens: int | None,
    threads: int | None,
    repeat: int | None,
    warm_up: int,
    no_profile: bool,
    allow_pickle: bool,
    data: Path | None,
    plot: Path | None,
) -> None:
    """Measure BUNDLE, or MODEL, of which a bundle is made first, in each of its forms: seconds, tokens/s and memory.

    Every subject runs in a process of its own, all in turn, one run of each in every round. `pytorch` is transformers'
    own model, `pytorch-compile` the same through torch.compile (only when named: it compiles for minutes), `onnx` the
    portable model in stock onnxruntime, `ort` onnxruntime with the native ops, `peer:NAME` a file given by --peer.

    \b
    Of a bundle with an engine also, on the GPU, by its own clock, without copies:
      `engine`, `engine-graph` (the same as a CUDA graph), and in its precision
      `pytorch-gpu`, `pytorch-gpu-compile` (only when named).

    The floor is what the model's linear layers alone take at the rate of onnxruntime's matrix product, measured in the
    same rounds.

    \b
    lat-export bench ./checkpoint --tokens 512,1024,2048 --plot bench.svg
    lat-export bench ./engine-bundle --subject engine --subject engine-graph --subject pytorch-gpu
    lat-export bench ./bundle --checkpoint ./checkpoint --subject pytorch --subject ort --json bench.json
    """
    from lat_export.bench.given import given
    from lat_export.bench.measure import Settings, measure, usual_threads
    from lat_export.bench.plot import bench_plot
    from lat_export.bench.rounds import Plan
    from lat_export.bench.sweep import sweep
    from lat_export.cli.output import json_text
    from lat_export.validation.report_file import demand_places, write_whole

    demand_places({"--json": data, "--plot": plot}, Path(what))
    plan = Plan(warm_up, repeat, op_times=not no_profile)
    settings = Settings(subjects, baseline, threads or usual_threads(), plan)
    with given(what, checkpoint=checkpoint, task=task, peers=peers, allow_pickle=allow_pickle, tell=tell) as found:
        points = sweep(found.bundle.signature, tokens, batches or [1], global_tokens)
        result = measure(found, points, settings, tell)
    if data:
        write_whole(data, json_text(result.to_json()) + "\n", str(data))
    if plot:
        write_whole(plot, bench_plot(result, plot.suffix), str(plot))
    print_bench(result)
    if result.is_empty:
        sys.exit(EXIT_CHECK_FAILED)
