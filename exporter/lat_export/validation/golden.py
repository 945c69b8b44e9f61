"""Golden tensors: inputs and PyTorch's outputs of a table of cases, as safetensors and a JSON manifest beside it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.digest import file_sha256
from lat_export.errors import InputError, ParityError, first_line
from lat_export.types import Signature
from lat_export.validation.cases import Case

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 3
TENSORS_FILE = "golden.safetensors"
MANIFEST_FILE = "golden.json"

# Larger outputs keep rows spread evenly over the sequence, first and last included: each depends on all layers below.
KEPT_BYTES_PER_CASE = 16 * 2**20


@dataclass(frozen=True)
class GoldenCase:
    """One case with what PyTorch computed for it.

    Attributes:
        outputs: by name; where `rows` is not None, only those positions of the sequence.
        computed_by: "transformers", "lat-export reference" where transformers cannot run the case, or the name of the
            Polygraphy runner that it was read from.
        why_reference: transformers' own error, where it could not run.
        noise: for sampled attention, by output: the relative L2 by which right programs may differ, because a hash code
            flips where a projection is near zero (see `lat_export.families.Family.shaken`).
    """

    case: Case
    inputs: dict[str, np.ndarray[Any, Any]]
    outputs: dict[str, np.ndarray[Any, Any]]
    rows: np.ndarray[Any, Any] | None
    computed_by: str
    why_reference: str | None = None
    noise: dict[str, float] = field(default_factory=dict)


def kept_rows(
    outputs: dict[str, np.ndarray[Any, Any]], signature: Signature, kept_bytes: int
) -> np.ndarray[Any, Any] | None:
    """Positions to keep where the token-level outputs are over `kept_bytes` together; None to keep all."""
    import numpy as np

    axes = sequence_axes(signature)
    total = sum(outputs[name].nbytes for name in axes)
    if total <= kept_bytes:
        return None
    name, axis = next(iter(axes.items()))
    tokens = outputs[name].shape[axis]
    count = max(2, tokens * kept_bytes // total)
    return np.unique(np.linspace(0, tokens - 1, count).round().astype(np.int64))


def sequence_axes(signature: Signature) -> dict[str, int]:
    """The first axis of every token-level output that counts tokens."""
    return {spec.name: spec.dims.index("sequence") for spec in signature.outputs if "sequence" in spec.dims[1:]}


def take_rows(
    outputs: dict[str, np.ndarray[Any, Any]], rows: np.ndarray[Any, Any] | None, signature: Signature
) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs with only the kept rows of those that have a sequence axis."""
    if rows is None:
        return outputs
    axes = sequence_axes(signature)
    return {name: array.take(rows, axes[name]) if name in axes else array for name, array in outputs.items()}


def whole_shape(golden: GoldenCase, name: str, signature: Signature) -> tuple[int, ...]:
    """Shape of an output with all its rows, those that the golden does not keep included."""
    shape = list(golden.outputs[name].shape)
    axes = sequence_axes(signature)
    if golden.rows is not None and name in axes:
        shape[axes[name]] = golden.case.tokens
    return tuple(shape)


def case_prefix(index: int) -> str:
    """Of the tensors of a case: PREFIX.inputs.NAME, PREFIX.outputs.NAME and, where only some are kept, PREFIX.rows."""
    return f"{index:03d}"


def is_golden(folder: Path) -> bool:
    """Whether a folder holds golden tensors and nothing else, or nothing at all: something that may be replaced."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {TENSORS_FILE, MANIFEST_FILE}


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own digest."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class GoldenWriter:
    """Collects cases; `close` writes the two files."""

    def __init__(self, folder: Path, signature: Signature, origin: dict[str, Any]) -> None:
        """
        Args:
            origin: where the tensors come from: digests, versions, and as "command" what makes them again.
        """
        self._folder = folder
        self._signature = signature
        self._origin = origin
        self._tensors: dict[str, np.ndarray[Any, Any]] = {}
        self._cases: list[dict[str, Any]] = []

    def add(self, golden: GoldenCase) -> None:
        import numpy as np

        prefix = case_prefix(len(self._cases))
        for group in ("inputs", "outputs"):
            for name, array in getattr(golden, group).items():
                self._tensors[f"{prefix}.{group}.{name}"] = np.ascontiguousarray(array)
        if golden.rows is not None:
            self._tensors[f"{prefix}.rows"] = golden.rows
        self._cases.append(
            {
                "case": vars(golden.case),
                "computed_by": golden.computed_by,
                "why_reference": golden.why_reference,
                "noise": golden.noise,
                "rows": "all" if golden.rows is None else len(golden.rows),
            }
        )

    def close(self) -> None:
        from safetensors.numpy import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = self._folder / TENSORS_FILE
        save_file(self._tensors, str(tensors))
        manifest = {
            "format": FORMAT_VERSION,
            "signature": self._signature.to_json(),
            "origin": self._origin,
            "tensors_sha256": file_sha256(tensors),
            "cases": self._cases,
        }
        manifest["manifest_sha256"] = manifest_digest(manifest)
        (self._folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON", got=first_line(error)) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object", got=type(found).__name__)
    return found


class Golden:
    """A golden on disk, read case by case."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            InputError: no golden there, or one of another format version.
            ParityError: manifest or tensors were changed since they were written.
        """
        self.folder = folder
        self._tensors = folder / TENSORS_FILE
        manifest_file = folder / MANIFEST_FILE
        if not manifest_file.is_file() or not self._tensors.is_file():
            raise InputError("no golden tensors there", got=folder, expected=f"{MANIFEST_FILE} and {TENSORS_FILE}")
        self.manifest = _read_manifest(manifest_file)
        if self.manifest.get("format") != FORMAT_VERSION:
            raise InputError(
                "golden tensors of another format version",
                got=f"{self.manifest.get('format')} in {manifest_file}",
                expected=FORMAT_VERSION,
                hint=self.how_to_remake(),
            )
        for name, digest, written in (
            (MANIFEST_FILE, manifest_digest(self.manifest), self.manifest.get("manifest_sha256")),
            (TENSORS_FILE, file_sha256(self._tensors), self.manifest.get("tensors_sha256")),
        ):
            if digest != written:
                raise ParityError(
                    f"{name} was changed after it was written",
                    got=f"{digest} in {folder}",
                    expected=written,
                    hint=self.how_to_remake(),
                )
        self.signature = Signature.from_json(self.manifest["signature"])

    def how_to_remake(self) -> str:
        """For a hint: the command that makes these tensors again, as their manifest has it.

        Asked for in errors too, so of a manifest that may be damaged: a command in it is shown only where it is one
        line, and of lat-export.
        """
        origin = self.manifest.get("origin")
        command = origin.get("command") if isinstance(origin, dict) else None
        if not isinstance(command, str) or not command.isprintable() or not command.startswith("lat-export "):
            return "make it again with lat-export golden make, or export the bundle again"
        return f"make it again: {command}"

    def provenance(self) -> dict[str, Any]:
        """What a report says of the golden tensors."""
        return {
            "family": self.signature.family,
            "task": self.signature.task,
            "tensors_sha256": self.manifest["tensors_sha256"],
            "cases": len(self),
            "case_names": [Case(**row["case"]).name for row in self.manifest["cases"]],
            "computed_by": dict(Counter(row["computed_by"] for row in self.manifest["cases"])),
            "origin": self.manifest["origin"],
        }

    def note_on_reference(self) -> str | None:
        """How many cases have another reference than transformers, and why; None where all have transformers'."""
        reasons = [row["why_reference"] for row in self.manifest["cases"] if row["why_reference"] is not None]
        if not reasons:
            return None
        return f"{len(reasons)} of {len(self)} cases are compared with lat-export's own reference: {reasons[0]}"

    def __len__(self) -> int:
        return len(self.manifest["cases"])

    def __iter__(self) -> Iterator[GoldenCase]:
        from safetensors import safe_open

        with safe_open(str(self._tensors), framework="numpy") as tensors:
            names = list(tensors.keys())
            for index, row in enumerate(self.manifest["cases"]):
                groups: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}}
                for name in names:
                    prefix, _, rest = name.partition(".")
                    group, _, tensor = rest.partition(".")
                    if prefix == case_prefix(index) and group in groups:
                        groups[group][tensor] = tensors.get_tensor(name)
                kept = f"{case_prefix(index)}.rows"
                rows = tensors.get_tensor(kept) if kept in names else None
                yield GoldenCase(
                    Case(**row["case"]),
                    groups["inputs"],
                    groups["outputs"],
                    rows,
                    row["computed_by"],
                    row["why_reference"],
                    row["noise"],
                )
