"""What there is to measure: a bundle, the checkpoint that it was made from, native ops, and others' ONNX files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lat_export.digest import file_sha256
from lat_export.errors import InputError
from lat_export.native import ort_library
from lat_export.scratch import scratch_folder
from lat_export.stages.bundle import MANIFEST_FILE, Bundle, read_bundle
from lat_export.types import ModelSpec
from lat_export.validation.golden import MANIFEST_FILE as GOLDEN_MANIFEST

CONFIG = "config.json"


@dataclass(frozen=True)
class Given:
    """
    Attributes:
        checkpoint: what PyTorch loads; None where it is not known.
        native_ops: library of native ops for onnxruntime; None where there is none.
        peers: others' ONNX files by the name that they have in results.
    """

    bundle: Bundle
    checkpoint: Path | None
    native_ops: Path | None
    peers: dict[str, Path]
    allow_pickle: bool = False


@contextmanager
def given(
    what: str,
    *,
    checkpoint: str | None,
    task: str | None,
    peers: Sequence[Path],
    allow_pickle: bool,
    tell: Callable[[str], None],
) -> Iterator[Given]:
    """
    Args:
        what: folder of a bundle, or a checkpoint as `lat-export model` takes it. Of a checkpoint a bundle is made in a
            temporary folder first, for onnxruntime and without validation.
        checkpoint: that the bundle was made from.
    Raises:
        InputError: no such bundle or checkpoint, or a checkpoint that the bundle was not made from.
    """
    for path in peers:
        if not path.is_file():
            raise InputError("no such ONNX file", got=f"--peer {path}")
    named = _named(peers)
    if (Path(what) / MANIFEST_FILE).is_file():
        if task is not None:
            raise InputError("a bundle has its task already", got=f"--task {task}")
        bundle = read_bundle(Path(what))
        yield Given(bundle, _checkpoint_of(bundle, checkpoint), ort_library(), named, allow_pickle)
        return
    if checkpoint is not None:
        raise InputError("--checkpoint goes with a bundle", got=f"{what}, which is no bundle")
    from lat_export.pipeline import export
    from lat_export.stages.checkpoint_folder import checkpoint_folder

    with scratch_folder() as scratch:
        tell("bundle ... (temporary, not validated: lat-export model makes one to keep, with proof)")
        spec = ModelSpec(what, "ort", scratch / "bundle", task=task, validate=False, allow_pickle=allow_pickle)
        bundle = export(spec, tell).bundle
        yield Given(bundle, checkpoint_folder(spec), ort_library(), named, allow_pickle)


def _named(peers: Sequence[Path]) -> dict[str, Path]:
    """By the files' stems, numbered where two are alike."""
    named: dict[str, Path] = {}
    for path in peers:
        alike = sum(1 for other in named.values() if other.stem == path.stem)
        named[f"{path.stem}-{alike + 1}" if alike else path.stem] = path
    return named


def _checkpoint_of(bundle: Bundle, named: str | None) -> Path | None:
    """The one that the user names, else the one in the golden's command, where it is still there and the same."""
    if named is None:
        found = _remembered(bundle)
        return found if found is not None and _difference(bundle, found) is None else None
    from lat_export.stages.checkpoint_folder import checkpoint_folder

    folder = checkpoint_folder(ModelSpec(named, "onnx", bundle.folder))
    differs = _difference(bundle, folder)
    if differs is not None:
        raise InputError("the bundle was made from another checkpoint", got=f"{folder}: {differs} is another")
    return folder


def _remembered(bundle: Bundle) -> Path | None:
    try:
        words = shlex.split(json.loads((bundle.folder / GOLDEN_MANIFEST).read_text())["origin"]["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder = Path(words[2]) if words[1:2] == ["model"] and len(words) > 2 else None
    return folder if folder and (folder / CONFIG).is_file() else None


def _difference(bundle: Bundle, checkpoint: Path) -> str | None:
    """Name of a file that is not the one of the bundle; weights are compared where the bundle has golden tensors."""
    from lat_export.stages.record import CONFIG_AND_WEIGHTS

    digests = {CONFIG: bundle.manifest["files"][CONFIG]["sha256"]}
    golden = bundle.folder / GOLDEN_MANIFEST
    if golden.is_file():
        digests |= json.loads(golden.read_text())["origin"]["checkpoint_sha256"]
    present = {path.name for pattern in CONFIG_AND_WEIGHTS for path in checkpoint.glob(pattern)}
    for name, digest in digests.items():
        if name not in present or file_sha256(checkpoint / name) != digest:
            return name
    return None
