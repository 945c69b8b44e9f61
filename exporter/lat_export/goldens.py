"""Golden tensors of any checkpoint: made, and checked against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lat_export.errors import InputError, ParityError
from lat_export.remake import golden_command
from lat_export.stages.checkpoint_folder import checkpoint_folder
from lat_export.stages.load import load
from lat_export.stages.record import checkpoint_digests, record
from lat_export.staging import staged
from lat_export.tokenizer_file import TOKENIZER_FILE
from lat_export.types import ModelSpec
from lat_export.validation.given_cases import given_cases
from lat_export.validation.golden import KEPT_BYTES_PER_CASE, MANIFEST_FILE, Golden, is_golden

Tell = Callable[[str], None]
CHECKPOINT_FOLDER = "checkpoint"
# The only target whose artifacts need nothing that a golden does not: its name fills a place in `ModelSpec`.
ANY_TARGET = "onnx"


def make_golden(
    spec: ModelSpec,
    texts: Path | None = None,
    arrays: tuple[Path, ...] = (),
    *,
    all_rows: bool = False,
    tell: Tell = lambda _: None,
) -> Golden:
    """Write the golden tensors of a checkpoint to `spec.out`.

    Args:
        texts, arrays: a user's own cases (see `given_cases`); with neither, the case table.
        all_rows: keep every position of the sequence, however large the outputs are.
    Raises:
        LatExportError: of what failed; nothing is left at `spec.out`.
    """
    with staged(spec.out, replaceable=is_golden, force=spec.force) as staging:
        loaded = load(spec)
        checkpoint = loaded.checkpoint
        for warning in checkpoint.warnings:
            tell(f"warning: {warning}")
        given = given_cases(checkpoint.signature, checkpoint.folder, texts, arrays)
        golden = record(
            loaded,
            staging.folder,
            golden_command(spec, texts, arrays, all_rows=all_rows),
            kept_bytes=None if all_rows else KEPT_BYTES_PER_CASE,
            given=given,
            precision=spec.precision,
        )
        if note := golden.note_on_reference():
            tell(f"warning: {note}")
    return Golden(spec.out)


def check_goldens(folder: Path, model: str | None = None) -> list[str]:
    """A line for every golden below `folder`: its digests hold, and those of its checkpoint where that is at hand.

    Args:
        model: the checkpoint that they were made from, a folder or a hub id; where it is None, each one's folder
            `checkpoint`, if it has one.
    Raises:
        ParityError: manifest, tensors or checkpoint are not those that the golden was made with.
        InputError: no golden below the folder, or one of another format version.
    """
    given = None if model is None else checkpoint_folder(ModelSpec(model, ANY_TARGET, folder))
    checked = []
    for manifest in sorted(folder.rglob(MANIFEST_FILE)):
        golden = Golden(manifest.parent)
        beside = manifest.parent / CHECKPOINT_FOLDER
        checkpoint = given or (beside if beside.is_dir() else None)  # a bundle's goldens have none beside them
        if checkpoint is not None:
            _check_checkpoint(golden, checkpoint)
        held = "its digests hold" if checkpoint is None else "its digests and its checkpoint's hold"
        checked.append(f"{manifest.parent.relative_to(folder)}: {len(golden)} cases, {held}")
    if not checked:
        raise InputError("no golden tensors below that folder", got=folder)
    return checked


def _check_checkpoint(golden: Golden, checkpoint: Path) -> None:
    recorded = golden.manifest["origin"].get("checkpoint_sha256", {})
    if not recorded:
        raise InputError("the golden tensors were not made from a checkpoint", got=golden.folder)
    found = checkpoint_digests(checkpoint, tokenizer=TOKENIZER_FILE in recorded)
    differing = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
    if differing:
        raise ParityError(
            "the checkpoint is not the one that its golden tensors were made from",
            got="\n".join(f"{name} {found.get(name, 'missing')}" for name in differing),
            expected="\n".join(f"{name} {recorded.get(name, 'not there')}" for name in differing),
            hint=golden.how_to_remake(),
            where={"golden": str(golden.folder)},
        )
