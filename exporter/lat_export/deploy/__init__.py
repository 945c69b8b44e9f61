"""Formats of deployment, a file each: a bundle that was validated -> what a server takes. `FORMATS` holds them by name.

A deployment appears whole or not at all, and its `deployment.json` lists every file with its digest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lat_export import __version__
from lat_export.deploy.contract import BACKENDS, DEVICES, Deployment, Format, Serving, Written
from lat_export.digest import file_sha256
from lat_export.errors import InputError
from lat_export.registry import discover
from lat_export.stages.bundle import MANIFEST_FILE, read_bundle
from lat_export.staging import holds_only_listed, staged

SCHEMA_VERSION = 1
DEPLOYMENT_FILE = "deployment.json"
# Servers write them beside the Python files that they import.
BYTECODE = "__pycache__"

FORMATS: dict[str, Format] = discover(sys.modules[__name__], "FORMAT", "name")


def format_named(name: str) -> Format:
    """The format of that name, or an `InputError` that lists the known ones."""
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", got=name, expected=", ".join(sorted(FORMATS)))
    return FORMATS[name]


def deploy(source: Path, format_name: str, serving: Serving, *, force: bool = False) -> Deployment:
    """Write the deployment of a bundle to `serving.out`.

    Args:
        source: the bundle; the digest of every file in it is checked.
        force: replace a deployment that is there.
    Raises:
        LatExportError: of what is wrong; nothing is left at `serving.out`.
    """
    form = format_named(format_name)
    form.demand_taken(serving)
    bundle = read_bundle(source)
    with staged(serving.out, replaceable=is_deployment, force=force) as staging:
        written = form.write(bundle, staging.folder, serving)
        manifest = {
            "schema": SCHEMA_VERSION,
            "lat_export": __version__,
            "format": form.name,
            "bundle": {
                "manifest_sha256": file_sha256(source / MANIFEST_FILE),
                **{key: bundle.manifest[key] for key in ("target", "precision", "semantics", "validated", "warnings")},
                "family": bundle.signature.family,
                "task": bundle.signature.task,
            },
            **written.facts,
            "notes": list(written.notes),
            "start": written.start,
            "files": {
                path.relative_to(staging.folder).as_posix(): {
                    "sha256": file_sha256(path),
                    "bytes": path.stat().st_size,
                }
                for path in sorted(staging.folder.rglob("*"))
                if path.is_file()
            },
        }
        (staging.folder / DEPLOYMENT_FILE).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    return Deployment(serving.out, manifest)


def is_deployment(folder: Path) -> bool:
    """Whether a folder holds a deployment and nothing else, or nothing at all: something that may be replaced."""
    return holds_only_listed(folder, DEPLOYMENT_FILE, ignored_folder=BYTECODE)


__all__ = [
    "BACKENDS",
    "DEVICES",
    "FORMATS",
    "Deployment",
    "Format",
    "Serving",
    "Written",
    "deploy",
    "format_named",
    "is_deployment",
]
