"""Golden tensors to Polygraphy's files and back. Needs no PyTorch of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lat_export.remake import command, portable
from lat_export.stages.bundle import MANIFEST_FILE as BUNDLE_MANIFEST
from lat_export.stages.bundle import read_bundle
from lat_export.staging import staged
from lat_export.types import Signature
from lat_export.validation.golden import Golden, is_golden
from lat_export.validation.polygraphy_files import INPUTS_FILE, OUTPUTS_FILE, read_golden, write_polygraphy

Tell = Callable[[str], None]


def to_polygraphy(golden_folder: Path, out: Path, *, force: bool = False, tell: Tell = lambda _: None) -> int:
    """Write a golden as the files that `polygraphy run` takes as --load-inputs and --load-outputs.

    Cases of which only some positions were kept are left out, and told.

    Returns:
        How many cases the files hold.
    Raises:
        InputError: no golden, or none of its cases is whole.
        MissingError: no Polygraphy.
    """
    golden = Golden(golden_folder)
    with staged(out, replaceable=_is_polygraphy, force=force) as staging:
        left_out = write_polygraphy(golden, staging.folder)
    if left_out:
        first = f"{left_out[0]!r}" + (f" and {len(left_out) - 1} more" if len(left_out) > 1 else "")
        tell(
            f"warning: {len(left_out)} of {len(golden)} cases are left out, because only some positions of their "
            f"outputs were kept: {first}; lat-export golden make --all-rows keeps every position"
        )
    return len(golden) - len(left_out)


def _is_polygraphy(folder: Path) -> bool:
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {INPUTS_FILE, OUTPUTS_FILE}


def from_polygraphy(
    inputs: Path, outputs: Path, like: Path, out: Path, *, runner: str | None = None, force: bool = False
) -> Golden:
    """Write what a runner of Polygraphy computed as a golden.

    Args:
        inputs, outputs: as `polygraphy run --save-inputs --save-outputs` writes them.
        like: a bundle or a golden whose signature they must fit.
        runner: whose outputs to take, where there are several.
    Raises:
        InputError, ShapeError: files that cannot be read, or that do not fit.
        MissingError: no Polygraphy.
    """
    words = ["golden", "from-polygraphy", "--load-inputs", portable(inputs), "--load-outputs", portable(outputs)]
    words += ["--runner", runner] if runner else []
    again = command(*words, "--like", portable(like), "--out", portable(out), "--force")
    signature = _signature(like)
    with staged(out, replaceable=is_golden, force=force) as staging:
        read_golden(signature, inputs, outputs, staging.folder, again, runner)
    return Golden(out)


def _signature(folder: Path) -> Signature:
    if (folder / BUNDLE_MANIFEST).is_file():
        return read_bundle(folder).signature
    return Golden(folder).signature
