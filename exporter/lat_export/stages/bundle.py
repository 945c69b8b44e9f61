"""bundle: all that was made -> a folder with a manifest of every file; and back, with every digest checked."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export import __version__
from lat_export.digest import file_sha256
from lat_export.engine_options import EngineOptions
from lat_export.environment import versions
from lat_export.errors import InputError, ParityError, first_line
from lat_export.staging import holds_only_listed
from lat_export.targets import PORTABLE_MODEL, BuildPlan, Built, Target
from lat_export.types import Range, Signature
from lat_export.validation.golden import MANIFEST_FILE as GOLDEN_MANIFEST
from lat_export.validation.golden import TENSORS_FILE as GOLDEN_TENSORS
from lat_export.validation.report import Report
from lat_export.validation.report_file import write_json, write_page

if TYPE_CHECKING:
    from lat_export.stages.graph import Graph
    from lat_export.stages.load import Checkpoint
    from lat_export.stages.lower import Lowered

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
MANIFEST_DIGEST_FILE = "manifest.json.sha256"
REPORT_FILE = "report.json"
REPORT_PAGE = "report.html"
TOKENIZER_FOLDER = "tokenizer"

ROLES = {
    PORTABLE_MODEL: "model",
    f"{PORTABLE_MODEL}.data": "model weights",
    GOLDEN_MANIFEST: "golden",
    GOLDEN_TENSORS: "golden",
    REPORT_FILE: "report",
    REPORT_PAGE: "report",
    "config.json": "config",
}


@dataclass(frozen=True)
class Bundle:
    """An exported model on disk, its manifest read and its bytes checked."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def signature(self) -> Signature:
        return Signature.from_json(self.manifest["signature"])

    @property
    def plan(self) -> BuildPlan:
        plan = self.manifest["plan"]
        # Bundles of earlier builds have one profile, and no list of them.
        texts = plan.get("profiles", [plan["sizes"]])
        first, *more = ({dim: Range.parse(text) for dim, text in profile.items()} for profile in texts)
        options = EngineOptions.from_json(plan.get("options", {}))
        return BuildPlan(first, plan["max_global"], plan["graph_sha256"], tuple(more), options)

    @property
    def kept_in_fp32(self) -> tuple[str, ...]:
        """Parts of a model in half precision that are in float32 all the same."""
        # Bundles of earlier builds have none.
        return tuple((self.manifest.get("kept_in_fp32") or {"parts": ()})["parts"])

    @property
    def forms(self) -> dict[str, str]:
        return dict(self.manifest["forms"])


def write_bundle(
    folder: Path,
    checkpoint: Checkpoint,
    graph: Graph,
    lowered: Lowered,
    target: Target,
    built: Built,
    report: Report | None,
    warnings: list[str],
) -> None:
    """Add tokenizer, config, report and manifest to the artifacts in `folder`."""
    _copy_checkpoint_files(checkpoint, folder)
    if report is not None:
        write_json(folder / REPORT_FILE, report)
        write_page(folder / REPORT_PAGE, report)
    roles = {**ROLES, **({built.file: "engine"} if built.file else {}), **built.roles}
    manifest = {
        "schema": SCHEMA_VERSION,
        "lat_export": __version__,
        "target": target.name,
        "kit": target.is_kit,
        "precision": graph.precision,
        "computed_in": graph.computed_in,
        "kept_in_fp32": None if graph.kept is None else graph.kept.to_json(),
        "largest_values": [asdict(largest) for largest in graph.largest],
        "semantics": checkpoint.options.semantics,
        "options": asdict(checkpoint.options),
        "signature": checkpoint.signature.to_json(),
        "plan": {
            "sizes": lowered.plan.texts[0],
            "profiles": lowered.plan.texts,
            "options": lowered.plan.options.to_json(),
            "max_global": lowered.plan.max_global,
            "graph_sha256": lowered.plan.graph_sha256,
        },
        "lat_nodes": graph.lat_nodes,
        "forms": built.forms,
        "build": {"seconds": round(built.build_s, 3), **built.details},
        "validated": None if report is None else {s.subject: s.verdict for s in report.subjects},
        "warnings": warnings,
        "versions": versions(),
        "files": {
            name: {"sha256": file_sha256(path), "bytes": path.stat().st_size, "role": roles.get(name, "tokenizer")}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            for name in (path.relative_to(folder).as_posix(),)
        },
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")
    # As sha256sum writes it, so that `sha256sum -c` checks it too.
    (folder / MANIFEST_DIGEST_FILE).write_text(f"{file_sha256(folder / MANIFEST_FILE)}  {MANIFEST_FILE}\n")


def _copy_checkpoint_files(checkpoint: Checkpoint, folder: Path) -> None:
    shutil.copyfile(checkpoint.folder / "config.json", folder / "config.json")
    for path in checkpoint.tokenizer_files:
        (folder / TOKENIZER_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / TOKENIZER_FOLDER / path.name)


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle and nothing else, or nothing at all: something that may be replaced."""
    return holds_only_listed(folder, MANIFEST_FILE, also=(MANIFEST_DIGEST_FILE,))


def precision_of(folder: Path) -> str:
    """Of a bundle that was read before."""
    precision: str = json.loads((folder / MANIFEST_FILE).read_text())["precision"]
    return precision


def read_bundle(folder: Path) -> Bundle:
    """Open a bundle and check the digest of every file in it.

    Raises:
        InputError: the folder is no bundle, or one of another schema or version.
        ParityError: a file is missing or was changed since the bundle was written.
    """
    manifest_file, digest_file = folder / MANIFEST_FILE, folder / MANIFEST_DIGEST_FILE
    if not manifest_file.is_file():
        raise InputError(
            "not a bundle: no manifest.json",
            got=folder,
            hint="make one with lat-export model MODEL --to onnx --out DIR",
        )
    expected = digest_file.read_text(errors="replace").split() if digest_file.is_file() else ["nothing"]
    if expected != [file_sha256(manifest_file), MANIFEST_FILE]:
        raise _changed(MANIFEST_FILE, file_sha256(manifest_file), " ".join(expected) + f" in {MANIFEST_DIGEST_FILE}")
    manifest = _parsed(manifest_file)
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise _changed(name, "no such file", entry["sha256"])
        found = file_sha256(path)
        if found != entry["sha256"]:
            raise _changed(name, found, entry["sha256"])
    return Bundle(folder, manifest)


def _parsed(path: Path) -> dict[str, Any]:
    """The manifest, whose parts are all of a form that this version reads."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        schema = manifest.get("schema")
        if schema == SCHEMA_VERSION:
            bundle = Bundle(path.parent, manifest)
            # Read for their errors.
            _ = (
                bundle.signature,
                bundle.plan,
                bundle.forms,
                bundle.kept_in_fp32,
                [entry["sha256"] for entry in manifest["files"].values()],
            )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.name} is not of a form that this version of lat-export reads",
            got=f"{path}: {first_line(error)}",
            expected=f"what lat-export {__version__} writes",
            hint="another version may have written the bundle: use that one, or export it again",
        ) from error
    if schema != SCHEMA_VERSION:
        raise InputError("a bundle of another schema", got=schema, expected=SCHEMA_VERSION)
    return manifest


def _changed(name: str, got: str, expected: str) -> ParityError:
    return ParityError(
        f"{name} is not what this bundle was written with",
        got=got,
        expected=expected,
        hint="copy the bundle again, or export it again",
    )
