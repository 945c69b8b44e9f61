"""A golden as Polygraphy's own files, and back: a JSON list of inputs, and the JSON of a `RunResults`.

Polygraphy chooses between TensorRT and TensorRT-RTX once, when it is imported: a process that reads or writes these
files first and then runs an engine has the one that POLYGRAPHY_USE_TENSORRT_RTX named then.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export import __version__
from lat_export.digest import file_sha256
from lat_export.errors import InputError, MissingError, ShapeError, first_line
from lat_export.types import Signature
from lat_export.validation.check import without_empty_globals
from lat_export.validation.given_cases import given_case, told_of
from lat_export.validation.golden import Golden, GoldenCase, GoldenWriter

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

INPUTS_FILE = "inputs.json"
OUTPUTS_FILE = "outputs.json"
RUNNER_NAME = "lat-export-golden"


def write_polygraphy(golden: Golden, folder: Path) -> list[str]:
    """Write `INPUTS_FILE` and `OUTPUTS_FILE`, an iteration for every case that has all positions.

    Returns:
        Names of the cases that are left out.
    Raises:
        InputError: no case has all positions.
    """
    with _polygraphy() as (json, comparator):
        inputs: list[Arrays] = []
        outputs: list[Arrays] = []
        left_out = []
        for case in golden:
            if case.rows is not None:
                left_out.append(case.case.name)
                continue
            inputs.append(case.inputs)
            outputs.append(case.outputs)
        if not inputs:
            raise InputError(
                "no case can be compared by Polygraphy: only some positions of their outputs were kept",
                got=f"{len(left_out)} cases, none with all positions",
                hint="make the golden tensors with --all-rows",
            )
        results = comparator.RunResults()
        results.add(outputs, runner_name=RUNNER_NAME)
        json.save_json(inputs, str(folder / INPUTS_FILE))
        results.save(str(folder / OUTPUTS_FILE))
    return left_out


def read_golden(
    signature: Signature, inputs: Path, outputs: Path, folder: Path, command: str, runner: str | None = None
) -> None:
    """Write a golden into `folder` whose tensors a runner of Polygraphy computed.

    Args:
        signature: what inputs and outputs must fit.
        command: the command that makes the golden again.
        runner: whose outputs to take, where there are several.
    Raises:
        InputError, ShapeError: files that cannot be read, or that do not fit.
    """
    import numpy as np

    with _polygraphy() as (json, comparator):
        feeds = _load(inputs, json.load_json, "a JSON list with a dictionary of arrays for every iteration")
        results = _load(outputs, comparator.RunResults.load, "the JSON of a RunResults")
        name, found = _of_runner(results, runner, outputs)
    if not isinstance(feeds, list) or not all(isinstance(feed, dict) for feed in feeds):
        raise InputError("not Polygraphy's inputs", got=inputs, expected="a JSON list of dictionaries of arrays")
    if len(feeds) != len(found) or not feeds:
        raise InputError(
            "inputs and outputs are of different runs",
            got=f"{len(feeds)} iterations in {inputs}, {len(found)} of {name} in {outputs}",
            expected="as many, and at least one",
        )
    origin = {
        "given_sha256": {"inputs": file_sha256(inputs), "outputs": file_sha256(outputs)},
        "versions": {
            "lat-export": __version__,
            "polygraphy": importlib.metadata.version("polygraphy"),
            "numpy": np.__version__,
        },
        "cases": "given",
        "dtype": "float32",
        "command": command,
    }
    writer = GoldenWriter(folder, signature, origin)
    for index, (feed, given) in enumerate(zip(feeds, found, strict=True)):
        source = f"iteration {index}"
        with told_of(source):
            arrays = _arrays(feed)
            case = given_case(signature, arrays, source)
            writer.add(GoldenCase(case, arrays, _fitting(_arrays(given), arrays, signature), None, name))
    writer.close()


def _fitting(outputs: Arrays, inputs: Arrays, signature: Signature) -> Arrays:
    """The outputs that the signature has, of the shapes that these inputs give.

    Raises:
        ShapeError: an output too many or too few, of another dtype or shape, or with NaN or Inf.
    """
    import numpy as np

    expected = [spec.name for spec in signature.outputs]
    if set(outputs) != set(expected):
        raise ShapeError("other outputs than the model's", got=", ".join(outputs), expected=", ".join(expected))
    dtypes = {spec.name: spec.dtype for spec in signature.outputs}
    trimmed = outputs
    if all(outputs[spec.name].ndim == len(spec.dims) for spec in signature.outputs):
        trimmed = without_empty_globals(outputs, signature, signature.most_globals(inputs))
    for name, shape in signature.output_shapes(inputs).items():
        array, where = trimmed[name], {"output": name}
        if str(array.dtype) != dtypes[name]:
            raise ShapeError("wrong dtype", got=array.dtype, expected=dtypes[name], where=where)
        if array.shape != shape:
            raise ShapeError("wrong shape", got=array.shape, expected=shape, where=where)
        if not np.isfinite(array).all():
            raise ShapeError("NaN or Inf, which is no reference", where=where)
    return {name: trimmed[name] for name in expected}


def _arrays(found: dict[str, Any]) -> Arrays:
    """Polygraphy may hold tensors of PyTorch."""
    import numpy as np

    return {str(name): np.asarray(array) for name, array in found.items()}


def _of_runner(results: Any, runner: str | None, path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The runner's name, and its arrays by name of every iteration."""
    try:
        by_runner = {str(name): [dict(iteration.items()) for iteration in rows] for name, rows in results.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no RunResults", got=first_line(error)) from error
    if runner is None and len(by_runner) != 1:
        got = ", ".join(by_runner) or f"no runner in {path}"
        raise InputError("the outputs are not of one runner", got=got, hint="choose one: --runner NAME")
    chosen = runner or next(iter(by_runner))
    if chosen not in by_runner:
        raise InputError("no such runner in the outputs", got=chosen, expected=", ".join(by_runner))
    return chosen, by_runner[chosen]


def _load(path: Path, load: Any, expected: str) -> Any:
    if not path.is_file():
        hint = "give --save-inputs and --save-outputs of polygraphy names that end in .json" if path.is_dir() else None
        raise InputError("no such file", got=path, expected=expected, hint=hint)
    try:
        return load(str(path))
    except Exception as error:  # Polygraphy's own, json's and numpy's
        raise InputError(f"{path} cannot be read", got=first_line(error), expected=expected) from error


@contextmanager
def _polygraphy() -> Iterator[tuple[Any, Any]]:
    """Polygraphy's modules `json` and `comparator`, while it logs nothing: what it would log is in our errors."""
    try:
        from polygraphy import comparator, json
        from polygraphy.logger import G_LOGGER
    except ModuleNotFoundError as error:
        raise MissingError(
            "Polygraphy is not installed", got=first_line(error), hint="pip install polygraphy"
        ) from error
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
        yield json, comparator
