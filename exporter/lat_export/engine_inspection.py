"""What is in an engine: told by itself where this machine can open it, else by what its bundle kept of the build."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lat_export.digest import file_sha256
from lat_export.environment import gpu_count
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.scratch import scratch_folder
from lat_export.stages.bundle import MANIFEST_FILE, Bundle, read_bundle
from lat_export.targets import TARGETS
from lat_export.targets.tensorrt_child import answer_of
from lat_export.targets.tensorrt_target import TensorRTTarget, layers_file
from lat_export.types import PLUGIN

SUFFIXES = (".engine", ".plan", ".trt")
ENGINE, NETWORK = "of the engine, as its inspector tells", "of the network, before the builder fused it"


@dataclass(frozen=True)
class EngineFacts:
    """
    Attributes:
        library: title of the library, and its version.
        told_by: where each of these is from, a sentence or more.
        bindings: "name", "dtype", "shape" and "is" ("input" or "output").
        profiles: `MIN:OPT:MAX` or shapes, by dim or input, of each profile.
        layers: "name", "type" and "precision".
        layers_are: `ENGINE`, `NETWORK`, or "" where none are known.
        plugins: names of the `lat` nodes that plugins run.
        memory: bytes, by the library's own names.
        options: how it was built.
    """

    path: Path
    file_bytes: int
    library: str
    told_by: tuple[str, ...]
    bindings: list[dict[str, Any]]
    profiles: list[dict[str, Any]]
    layers: list[dict[str, Any]] = field(default_factory=list)
    layers_are: str = ""
    plugins: list[str] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def layers_by_precision(self) -> list[tuple[str, str, int]]:
        """Type, precision, and how many layers have both, most first."""
        counts = Counter((layer["type"] or "not told", layer["precision"] or "not told") for layer in self.layers)
        return [(kind, precision, count) for (kind, precision), count in counts.most_common()]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "told_by": list(self.told_by)}


def is_engine(path: Path) -> bool:
    """By its name: whether it is there is another question."""
    return path.suffix in SUFFIXES and not path.is_dir()


def inspect_engine(path: Path) -> EngineFacts:
    """
    Raises:
        InputError: no such file, or the library does not take it.
        MissingError: nothing is known of it: no GPU to open it, and no bundle around it.
        ParityError: the bundle around it was changed.
    """
    if not path.is_file():
        raise InputError("no such engine", got=path)
    bundle = _bundle_of(path)
    live, why_not = _from_itself(path, bundle)
    if live is None and bundle is None:
        raise MissingError(
            "an engine tells nothing of itself on this machine, and no bundle is around it",
            got=f"{path}: {why_not}",
            hint="inspect it on a machine with a GPU that takes it, or inspect the bundle that it came in",
        )
    if bundle is None:
        assert live is not None
        return _merged(path, live, None, ())
    told = f"the bundle's manifest, and what the build kept: {why_not}" if live is None else "the bundle's manifest"
    return _merged(path, live, bundle, (told,))


def _bundle_of(path: Path) -> Bundle | None:
    """The bundle that the engine is part of, as it was written."""
    if not (path.parent / MANIFEST_FILE).is_file():
        return None
    bundle = read_bundle(path.parent)
    listed = bundle.manifest["files"].get(path.name)
    return bundle if listed and listed["sha256"] == file_sha256(path) else None


def _from_itself(path: Path, bundle: Bundle | None) -> tuple[dict[str, Any] | None, str]:
    """What the library tells of the opened engine; else None, and why not."""
    if gpu_count() == 0:
        return None, "no GPU to open the engine on"
    engines = [target for target in TARGETS.values() if isinstance(target, TensorRTTarget)]
    if bundle is not None:
        engines = [target for target in engines if target.name == bundle.manifest["target"]]
    here = [target for target in engines if target.missing() is None]
    if not here:
        return None, f"{' or '.join(target.title for target in engines)} is not installed"
    refusals: list[LatExportError] = []
    for target in here:
        with scratch_folder() as scratch:
            request = {
                "module": target.module,
                "engine": str(path.absolute()),
                "plugins": [str(library) for library in target.plugins().libraries],
                "answer": str(scratch / "answer.json"),
            }
            try:
                answer = answer_of("tensorrt_inspect", target.title, request, "inspect", "opened the engine")
            except LatExportError as error:
                refusals.append(error)
                continue
        return {**answer, "title": target.title}, ""
    if bundle is None:
        raise refusals[0]
    return None, f"{refusals[0].what}"


def _merged(path: Path, live: dict[str, Any] | None, bundle: Bundle | None, told: tuple[str, ...]) -> EngineFacts:
    """What the engine tells itself, and the rest from the bundle."""
    facts: dict[str, Any] = {"layers": [], "layers_are": "", "memory": {}}
    if bundle is not None:
        facts |= _of_bundle(bundle)
    if live is not None:
        facts |= {
            "library": f"{live['title']} {live['version']}",
            "bindings": live["bindings"],
            "profiles": live["profiles"],
            "layers": live["layers"],
            "layers_are": ENGINE,
        }
        facts["memory"] = {**facts["memory"], **live["memory"]}
        told = ("the engine itself", *told)
    return EngineFacts(path=path, file_bytes=path.stat().st_size, told_by=told, **facts)


def _of_bundle(bundle: Bundle) -> dict[str, Any]:
    build, plan = bundle.manifest["build"], bundle.manifest["plan"]
    target = TARGETS[bundle.manifest["target"]]
    if not isinstance(target, TensorRTTarget):
        raise InputError("a bundle without an engine", got=target.name, expected="one of trt or trt-rtx")
    kept = bundle.folder / layers_file(target.engine_file)
    layers = json.loads(kept.read_text()) if kept.is_file() else {}
    of_engine = layers.get("engine")
    return {
        "library": f"{target.title} {build[target.module]}",
        "bindings": [
            *({**tensor, "is": "input"} for tensor in build["inputs"]),
            *({**tensor, "is": "output"} for tensor in build["outputs"]),
        ],
        "profiles": build.get("profiles", [plan["sizes"]]),
        "layers": of_engine or layers.get("network", []),
        "layers_are": ENGINE if of_engine else NETWORK if layers else "",
        "plugins": [name for name, form in bundle.forms.items() if form == PLUGIN],
        "memory": layers.get("memory", {}),
        "options": plan.get("options", {}),
    }
