"""Deployments of golden checkpoints, and bundles that are made up for what cannot be built here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lat_export.digest import file_sha256
from lat_export.stages.bundle import MANIFEST_DIGEST_FILE, MANIFEST_FILE

ENGINE = "model.trt.engine"


def changed_bundle(source: Path, out: Path, changes: dict[str, Any], files: dict[str, bytes] | None = None) -> Path:
    """A copy of a bundle with other facts in its manifest and more files, and digests that fit.

    Args:
        changes: what is laid over the manifest; a mapping in it over the one that is there.
    """
    shutil.copytree(source, out)
    manifest = json.loads((out / MANIFEST_FILE).read_text())
    for name, content in (files or {}).items():
        (out / name).write_bytes(content)
        manifest["files"][name] = {"sha256": file_sha256(out / name), "bytes": len(content), "role": "engine"}
    for key, value in changes.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    (out / MANIFEST_FILE).write_text(json.dumps(manifest))
    (out / MANIFEST_DIGEST_FILE).write_text(f"{file_sha256(out / MANIFEST_FILE)}  {MANIFEST_FILE}\n")
    return out


def engine_bundle(source: Path, out: Path, batch: str = "1:1:4", **more: Any) -> Path:
    """What `--to trt` writes, with bytes in place of the plan: TensorRT is not here."""
    profile = {"batch": batch, "sequence": "16:64:128"}
    plan = {"sizes": profile, "profiles": [profile], "max_global": 8, "options": {}, **more.pop("plan", {})}
    forms = dict.fromkeys(json.loads((source / MANIFEST_FILE).read_text())["forms"], "plugin")
    return changed_bundle(source, out, {"target": "trt", "plan": plan, "forms": forms, **more}, {ENGINE: b"plan"})
