"""A device without Python: ONNX model, onnxruntime's library, native ops, tokenizer, and a runner with a C ABI.

The runner (runner/) is compiled here, for this machine or with Debian's compiler for aarch64; its sources come along.
x86-64 was run, aarch64 in an emulator only.
"""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lat_export import __version__, native
from lat_export.deploy.contract import Format, Serving, Written
from lat_export.deploy.edge_proof import prove_tokenizer
from lat_export.deploy.edge_readme import readme
from lat_export.deploy.edge_tokenizer import TABLES_FILE, EdgeTokenizer, edge_tokenizer
from lat_export.errors import InputError
from lat_export.native.onnxruntime_files import OnnxruntimeFiles, named_onnxruntime_files, onnxruntime_files
from lat_export.native.runner import C_API, HEADER, PROGRAM, RunnerBuild, build_runner, sources
from lat_export.stages.bundle import TOKENIZER_FOLDER, Bundle
from lat_export.stages.kit import FACTS_FILE, cases_of
from lat_export.stages.kit import SCHEMA as CASES_SCHEMA
from lat_export.targets import PORTABLE_MODEL, BuildPlan
from lat_export.targets.ort import best_model
from lat_export.text_inputs import separator_of
from lat_export.tokenizer_file import TOKENIZER_FILE, read_tokenizer
from lat_export.validation.check import Judge
from lat_export.validation.golden import TENSORS_FILE, Golden

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMA = 1
MANIFEST_FILE = "edge.json"
LIBRARIES = "lib"
SOURCES = "sources"
LICENCES = "licenses/onnxruntime"
# The name that the library itself asks the loader for.
ONNXRUNTIME = "libonnxruntime.so.1"
MASKS = ("<mask>", "[MASK]")


@dataclass(frozen=True)
class Parts:
    """What goes into the folder.

    Attributes:
        model: a file of the bundle.
        native_ops: None: every lat node runs as its body.
        tokenizer: or why the runner takes ids only.
        known: the checkpoint's own, where it has one.
    """

    bundle: Bundle
    processor: str
    model: str
    native_ops: Path | None
    onnxruntime: OnnxruntimeFiles
    runner: RunnerBuild
    tokenizer: EdgeTokenizer | str
    known: Tokenizer | None

    @property
    def here(self) -> bool:
        """Whether it is for a processor such as this machine's."""
        return self.processor == platform.machine()


class EdgeFormat(Format):
    """`--format edge`."""

    name = "edge"
    title = "a device without Python"
    takes = frozenset(("onnxruntime", "platform", "text"))
    why_not = MappingProxyType(
        {"device": "the runner runs on the CPU; engines for a Jetson: lat-export model MODEL --to trt --kit"}
    )

    def write(self, bundle: Bundle, folder: Path, serving: Serving) -> Written:
        parts = _parts(bundle, serving)
        _copy_binaries(parts, folder)
        _copy_model(parts, folder)
        _write_tokenizer(parts, folder)
        (folder / MANIFEST_FILE).write_text(json.dumps(_manifest(parts), indent=1, allow_nan=False) + "\n")
        compared = _write_cases(bundle, folder)
        if parts.here and parts.known is not None and not isinstance(parts.tokenizer, str):
            prove_tokenizer(folder / PROGRAM, parts.known)
        notes = _notes(parts, compared)
        start = f"{serving.out}/{PROGRAM} --check" if compared else f"{serving.out}/{PROGRAM} --facts"
        facts: dict[str, Any] = {
            "platform": parts.processor,
            "model_file": parts.model,
            "onnxruntime": parts.onnxruntime.version,
            "native_ops": parts.native_ops is not None,
            "takes_text": not isinstance(parts.tokenizer, str),
        }
        (folder / "README.md").write_text(readme(bundle, facts, notes))
        return Written(facts, notes, start)


def _parts(bundle: Bundle, serving: Serving) -> Parts:
    if bundle.manifest["precision"] == "bf16":
        raise InputError(
            "onnxruntime's CPU kernels take no bfloat16",
            got="a bundle of --precision bf16",
            expected="fp32 or fp16",
            hint="export again with --precision fp32",
        )
    processor = serving.platform or platform.machine()
    runner = build_runner(processor, serving.tell)
    runtime = named_onnxruntime_files(serving.onnxruntime) if serving.onnxruntime else onnxruntime_files(processor)
    native_ops = native.ort_library() if processor == platform.machine() else native.ort_library_for(processor)
    known = read_tokenizer(bundle.folder / TOKENIZER_FOLDER)
    tokenizer = _tokenizer(bundle, serving, known)
    model = best_model(bundle.folder, bundle.forms, native_ops).name
    return Parts(bundle, processor, model, native_ops, runtime, runner, tokenizer, known)


def _tokenizer(bundle: Bundle, serving: Serving, known: Tokenizer | None) -> EdgeTokenizer | str:
    """The runner's tokenizer, or why there is none."""
    if not serving.text:
        return "it was written with --no-text"
    if not bundle.signature.has_input("input_ids"):
        return "the model takes inputs_embeds"
    if known is None:
        return f"the bundle has no {TOKENIZER_FILE}"
    return edge_tokenizer(bundle.folder / TOKENIZER_FOLDER)


def _copy_binaries(parts: Parts, folder: Path) -> None:
    """The program at the top, as its RUNPATH wants it, libraries in lib/, sources to build them again."""
    (folder / LIBRARIES).mkdir()
    shutil.copy(parts.runner.program, folder / PROGRAM)
    shutil.copy(parts.runner.library, folder / LIBRARIES)
    shutil.copy(parts.onnxruntime.library, folder / LIBRARIES / ONNXRUNTIME)
    if parts.native_ops:
        shutil.copy(parts.native_ops, folder / LIBRARIES)
    (folder / LICENCES).mkdir(parents=True)
    for licence in parts.onnxruntime.licences:
        shutil.copy(licence, folder / LICENCES)
    for path, name in sources():
        (folder / SOURCES / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / SOURCES / name)
    (folder / SOURCES / "onnxruntime").mkdir()
    shutil.copy(parts.runner.c_api, folder / SOURCES / "onnxruntime" / C_API)
    (folder / "include").mkdir()
    shutil.copy(folder / SOURCES / HEADER, folder / "include")


def _copy_model(parts: Parts, folder: Path) -> None:
    source = parts.bundle.folder
    # Weights lie beside either model under the portable one's name.
    for name in (parts.model, f"{PORTABLE_MODEL}.data", f"{parts.model}.data", "config.json"):
        if (source / name).is_file() and not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)
    if (source / TOKENIZER_FOLDER).is_dir():
        shutil.copytree(source / TOKENIZER_FOLDER, folder / TOKENIZER_FOLDER)


def _write_tokenizer(parts: Parts, folder: Path) -> None:
    from safetensors.numpy import save_file

    if not isinstance(parts.tokenizer, str):
        save_file(parts.tokenizer.tables, folder / TABLES_FILE)


def _manifest(parts: Parts) -> dict[str, Any]:
    """edge.json, as runner/manifest.cpp reads it."""
    signature = parts.bundle.signature
    config = json.loads((parts.bundle.folder / "config.json").read_text())
    labels = config.get("id2label") or {}
    no_text = isinstance(parts.tokenizer, str)

    def ports(specs: Any) -> list[dict[str, Any]]:
        return [{"name": s.name, "dtype": s.dtype, "dims": list(s.dims), "below": s.below} for s in specs]

    return {
        "schema": SCHEMA,
        "lat_export": __version__,
        "platform": parts.processor,
        "family": signature.family,
        "task": signature.task,
        "precision": parts.bundle.manifest["precision"],
        "model": parts.model,
        "onnxruntime": f"{LIBRARIES}/{ONNXRUNTIME}",
        "native_ops": f"{LIBRARIES}/{parts.native_ops.name}" if parts.native_ops else None,
        "inputs": ports(signature.inputs),
        "outputs": ports(signature.outputs),
        "max_tokens": signature.max_tokens,
        "multiple_of": signature.multiple_of,
        "pad_token_id": signature.pad_token_id,
        "first_position": signature.first_position,
        "default_globals": signature.default_globals,
        "sep_token_id": separator_of(config),
        "mask_token_id": _mask_token_id(parts.known),
        "problem_type": config.get("problem_type"),
        "labels": [str(labels.get(str(index), f"LABEL_{index}")) for index in range(len(labels))],
        "why_no_text": parts.tokenizer if no_text else None,
        "tokenizer": None if isinstance(parts.tokenizer, str) else parts.tokenizer.facts,
    }


def _mask_token_id(known: Tokenizer | None) -> int | None:
    return next((number for token in MASKS if known and (number := known.token_to_id(token)) is not None), None)


def _write_cases(bundle: Bundle, folder: Path) -> bool:
    """kit.json and golden.safetensors, which the runner compares with; whether the bundle has golden tensors."""
    if bundle.manifest["validated"] is None:
        return False
    shutil.copyfile(bundle.folder / TENSORS_FILE, folder / TENSORS_FILE)
    judge = Judge(target="ort", precision=bundle.manifest["precision"], ops=tuple(bundle.manifest["lat_nodes"]))
    facts = {
        "schema": CASES_SCHEMA,
        "inputs": [spec.name for spec in bundle.signature.inputs],
        **cases_of(Golden(bundle.folder), bundle.signature, BuildPlan({}), judge),
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return True


def _notes(parts: Parts, compared: bool) -> tuple[str, ...]:
    notes = [f"for {parts.processor}, onnxruntime {parts.onnxruntime.version}, on the CPU"]
    if parts.native_ops is None:
        build = "" if parts.here else f" --platform {parts.processor}"
        notes.append(
            f"every lat node runs as its ONNX function body: no native ops of this version for {parts.processor} "
            f"(lat-export plugins build{build})"
        )
    if isinstance(parts.tokenizer, str):
        notes.append(f"it takes ids, not text: {parts.tokenizer}")
    if not compared:
        notes.append("nothing to compare with: the bundle was exported with --no-validate")
    if not parts.here:
        notes.append("compiled for another processor and not run here: run --check on the device")
    return tuple(notes)


FORMAT = EdgeFormat()
