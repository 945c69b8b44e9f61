"""A folder as one compressed file in pieces, each small enough for one call of a machine that is reached by calls.

Standard library alone: the machine with a GPU may have nothing else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "pieces.json"
BLOCK = 2**20


def cut(folder: Path, out: Path, piece_bytes: int, preset: int = 6) -> list[Path]:
    """Write `folder` to `out/1`, `out/2` and so on, each with a piece and the manifest of all.

    Args:
        piece_bytes: most bytes of a piece.
        preset: of xz: 0 is fast, 9 small.
    Returns:
        The folders, one for each call.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    whole = out / "whole.tar.xz"
    with tarfile.open(whole, "w:xz", preset=preset) as archive:
        archive.add(folder, arcname=".")
    size = whole.stat().st_size
    count = -(-size // piece_bytes)
    step = -(-size // count)
    manifest = {"sha256": digest(whole), "bytes": size, "pieces": [f"piece.{index}" for index in range(count)]}
    folders = []
    with whole.open("rb") as stream:
        for index, name in enumerate(manifest["pieces"], start=1):
            folders.append(out / str(index))
            folders[-1].mkdir()
            (folders[-1] / name).write_bytes(stream.read(step))
            (folders[-1] / MANIFEST).write_text(json.dumps(manifest) + "\n")
    whole.unlink()
    return folders


def join(places: Iterable[Path], out: Path) -> Path:
    """Unpack what `cut` wrote into the folder `out`, once all pieces are here and the digest is the one they had.

    Args:
        places: folders, below which the pieces lie.
    """
    found = {path.name: path for place in places for path in sorted(place.rglob("piece*"))}
    if MANIFEST not in found:
        sys.exit(f"error: no {MANIFEST} in any of the folders")
    manifest = json.loads(found[MANIFEST].read_text())
    lacking = [name for name in manifest["pieces"] if name not in found]
    if lacking:
        sys.exit(f"error: of {len(manifest['pieces'])} pieces {', '.join(lacking)} is not here: carry it, or keep it")
    out.mkdir(parents=True, exist_ok=True)
    whole = out / "whole.tar.xz"
    with whole.open("wb") as stream:
        for name in manifest["pieces"]:
            stream.write(found[name].read_bytes())
    if digest(whole) != manifest["sha256"]:
        whole.unlink()
        sys.exit(
            f"error: the pieces are not those that were cut: {len(manifest['pieces'])} of them give another digest"
        )
    with tarfile.open(whole) as archive:
        archive.extractall(out, filter="data")
    whole.unlink()
    return out


def keep(places: Iterable[Path], out: Path) -> None:
    """Copy pieces to where the next call finds them."""
    out.mkdir(parents=True, exist_ok=True)
    for place in places:
        for path in sorted(place.rglob("piece*")):
            shutil.copyfile(path, out / path.name)
            print(f"kept {path.name}, {path.stat().st_size} bytes")


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            found.update(block)
    return found.hexdigest()
