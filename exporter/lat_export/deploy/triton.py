"""NVIDIA Triton Inference Server: a model repository with the tensors' model and, before it, one that takes text.

Run with the python backend of a real server (PyPI's nvidia-pytriton). The onnxruntime and tensorrt backends, which need
NVIDIA's container, were never run: their configs were parsed, and written after the backends' sources.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lat_export import native
from lat_export.batching import Batching, batching_of
from lat_export.deploy.contract import BACKENDS, Format, Serving, Written
from lat_export.deploy.served_sources import write_served
from lat_export.deploy.triton_config import tensors_config, text_config
from lat_export.deploy.triton_readme import readme
from lat_export.deploy.triton_warmup import Warmup, warmups, write_warmups
from lat_export.errors import InputError
from lat_export.inspection import inspect_onnx
from lat_export.stages.bundle import TOKENIZER_FOLDER, Bundle
from lat_export.targets import PORTABLE_MODEL, TARGETS
from lat_export.targets.ort import best_model
from lat_export.tokenizer_file import TOKENIZER_FILE
from lat_export.types import PLUGIN
from lat_export.validation.report import PASSED

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
VERSION = "1"
PLAN = "model.plan"
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "gpu": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


@dataclass(frozen=True)
class Tensors:
    """The model that takes and gives tensors.

    Attributes:
        model: file that the backend loads, beside its config in the version's folder.
        libraries: of native ops or plugins, by their names there.
        served_at: its version's folder as the server sees it.
    """

    bundle: Bundle
    name: str
    backend: str
    device: str
    instances: int
    threads: int | None
    queue_delay_us: int
    batching: Batching
    model: str
    libraries: tuple[str, ...]
    served_at: str
    warmups: tuple[Warmup, ...]

    @property
    def of_engine(self) -> bool:
        return self.backend == "tensorrt"

    @property
    def max_global(self) -> int | None:
        """Bound on the global tokens of a row."""
        return self.bundle.plan.max_global if self.of_engine else None


class TritonFormat(Format):
    """`--format triton`."""

    name = "triton"
    title = "NVIDIA Triton Inference Server"
    takes = frozenset(
        ("backend", "device", "instances", "max_batch", "name", "queue_delay_us", "served_at", "text", "threads")
    )

    def write(self, bundle: Bundle, folder: Path, serving: Serving) -> Written:
        _, written = self.lay_out(bundle, folder, serving)
        return written

    def lay_out(self, bundle: Bundle, folder: Path, serving: Serving) -> tuple[Tensors, Written]:
        """What `write` does, and the model that it wrote, for formats with a repository inside."""
        backend = _backend(bundle, serving)
        device = _device(bundle, serving, backend)
        name = _name(bundle, serving)
        place = folder / name / VERSION
        place.mkdir(parents=True)
        model, libraries = (_copy_engine if backend == "tensorrt" else _copy_model)(bundle, place)
        tensors = Tensors(
            bundle=bundle,
            name=name,
            backend=backend,
            device=device,
            instances=serving.instances,
            threads=serving.threads,
            queue_delay_us=serving.queue_delay_us,
            batching=batching_of(bundle, by_engine=backend == "tensorrt", asked=serving.max_batch),
            model=model,
            libraries=libraries,
            served_at=f"{(serving.served_at or str(serving.out.absolute())).rstrip('/')}/{name}/{VERSION}",
            warmups=warmups(bundle, by_engine=backend == "tensorrt"),
        )
        write_warmups(tensors, folder / name)
        (folder / name / "config.pbtxt").write_text(tensors_config(tensors))
        if backend == "python":
            _write_python(tensors, place)
        no_text = _why_no_text(bundle, serving)
        models = {"tensors": name} if no_text else {"text": f"{name}_text", "tensors": name}
        if not no_text:
            _write_text(tensors, folder / models["text"])
        notes = tuple(_notes(tensors, no_text))
        start = _start(tensors)
        (folder / "README.md").write_text(readme(tensors, models, notes, start))
        facts = {
            "models": models,
            "backend": backend,
            "device": device,
            "model_file": f"{name}/{VERSION}/{model}",
            "libraries": list(libraries),
            "batching": {"max_batch_size": tensors.batching.most, "why": tensors.batching.why},
            "multiple_of": bundle.signature.multiple_of,
            "max_tokens": bundle.signature.max_tokens,
            "max_global": tensors.max_global,
        }
        return tensors, Written(facts, notes, start)


def _backend(bundle: Bundle, serving: Serving) -> str:
    """The one that was asked for, or the one of the bundle's target."""
    engine = _engine_of(bundle)
    backend = serving.backend or ("tensorrt" if engine else "onnxruntime")
    if backend not in BACKENDS:
        raise InputError(f"unknown backend {backend!r}", got=backend, expected=", ".join(BACKENDS))
    if backend == "tensorrt" and engine is None:
        target = bundle.manifest["target"]
        kit = " --kit" if bundle.manifest.get("kit") else ""
        raise InputError(
            "the bundle has no engine that Triton's tensorrt backend could load",
            got=f"a bundle of --to {target}{kit}",
            expected="one of --to trt, exported where TensorRT is",
            hint="Triton has no backend for TensorRT-RTX; --backend onnxruntime serves this bundle's ONNX model"
            if target == "trt-rtx"
            else "--backend onnxruntime serves this bundle's ONNX model",
        )
    return backend


def _engine_of(bundle: Bundle) -> str | None:
    """The TensorRT plan of a bundle."""
    file = f"model.{TARGETS['trt'].name}.engine"
    return file if bundle.manifest["target"] == "trt" and file in bundle.manifest["files"] else None


def _device(bundle: Bundle, serving: Serving, backend: str) -> str:
    device = serving.device or ("gpu" if backend == "tensorrt" else "cpu")
    if backend == "tensorrt" and device != "gpu":
        raise InputError("a TensorRT engine runs on a GPU", got=f"--device {device}", expected="gpu")
    if device == "cpu" and bundle.manifest["precision"] == "bf16":
        raise InputError(
            "onnxruntime has no bfloat16 on the CPU",
            got="a bundle of --precision bf16",
            expected="--device gpu, or a bundle of fp32 or fp16",
        )
    return device


def _name(bundle: Bundle, serving: Serving) -> str:
    usual = f"{bundle.signature.family}-{bundle.signature.task}"
    name = usual if serving.name is None else serving.name
    if not NAME.fullmatch(name):
        raise InputError(
            "not a name for a model of Triton",
            got=repr(name),
            expected="letters, digits, and . _ - behind the first character",
        )
    return name


def _copy_model(bundle: Bundle, place: Path) -> tuple[str, tuple[str, ...]]:
    """The ONNX model that is fastest with the native ops of this machine, and those where they are."""
    library = native.ort_library()
    model = best_model(bundle.folder, bundle.forms, library)
    for path in (model, bundle.folder / f"{PORTABLE_MODEL}.data"):  # weights that the optimised model shares
        if path.is_file():
            shutil.copyfile(path, place / path.name)
    if library is None or not inspect_onnx(model).lat_nodes:
        return model.name, ()
    shutil.copy(library, place / library.name)
    return model.name, (library.name,)


def _copy_engine(bundle: Bundle, place: Path) -> tuple[str, tuple[str, ...]]:
    """The plan, and the plugins unless they are in it."""
    options, engine = bundle.plan.options, _engine_of(bundle)
    assert engine is not None
    if options.strip_weights:
        raise InputError(
            "the engine has no weights",
            got=f"{engine} of --strip-weights",
            hint=f"put them in on a machine with a GPU: lat-export refit {engine} CHECKPOINT --out FILE, and export "
            "without --strip-weights for a bundle that can be served",
        )
    shutil.copyfile(bundle.folder / engine, place / PLAN)
    if PLUGIN not in bundle.forms.values() or options.embed_plugins:
        return PLAN, ()
    library = native.tensorrt_library()
    shutil.copy(library, place / library.name)
    return PLAN, (library.name,)


def _write_python(tensors: Tensors, place: Path) -> None:
    write_served("serving.triton_tensors", place)
    facts = {
        "signature": tensors.bundle.signature.to_json(),
        "model": tensors.model,
        "op_library": next(iter(tensors.libraries), None),
        "providers": PROVIDERS[tensors.device],
        "threads": tensors.threads,
    }
    (place / "serving.json").write_text(json.dumps(facts, indent=1) + "\n")


def _why_no_text(bundle: Bundle, serving: Serving) -> str | None:
    if not serving.text:
        return "--no-text: clients send tokens"
    if not bundle.signature.has_input("input_ids"):
        return "the bundle takes inputs_embeds: no model takes text"
    if f"{TOKENIZER_FOLDER}/{TOKENIZER_FILE}" not in bundle.manifest["files"]:
        return f"the bundle has no {TOKENIZER_FILE}: no model takes text"
    return None


def _write_text(tensors: Tensors, folder: Path) -> None:
    place = folder / VERSION
    (place / TOKENIZER_FOLDER).mkdir(parents=True)
    for name in (f"{TOKENIZER_FOLDER}/{TOKENIZER_FILE}", "config.json"):
        shutil.copyfile(tensors.bundle.folder / name, place / name)
    write_served("serving.triton_text", place)
    facts: dict[str, Any] = {
        "signature": tensors.bundle.signature.to_json(),
        "model": tensors.name,
        "max_global": tensors.max_global,
    }
    (place / "serving.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / "config.pbtxt").write_text(text_config(folder.name, tensors))


def _start(tensors: Tensors) -> str:
    repository = tensors.served_at.removesuffix(f"/{tensors.name}/{VERSION}")
    words = ["tritonserver", f"--model-repository={repository}"]
    options = tensors.bundle.plan.options
    if tensors.of_engine:
        if tensors.libraries:
            words.append(f"--backend-config=tensorrt,plugins={tensors.served_at}/{tensors.libraries[0]}")
        if options.version_compatible or options.embed_plugins:
            words.append("--backend-config=tensorrt,version-compatible=true")
    return " ".join(words)


def _notes(tensors: Tensors, no_text: str | None) -> list[str]:
    batching, signature = tensors.batching, tensors.bundle.signature
    notes = [f"max_batch_size {batching.most}: {batching.why}"]
    if tensors.backend != "python":
        notes.append(f"Triton's {tensors.backend} backend was not at hand where this was written: never run here")
    if signature.multiple_of > 1:
        notes.append(f"sequence is a multiple of {signature.multiple_of}: pad with attention_mask 0")
    if tensors.backend == "onnxruntime" and tensors.libraries:
        notes.append(f"the native ops are looked for in {tensors.served_at}: --served-at names another place")
    if tensors.backend != "tensorrt" and not tensors.libraries:
        notes.append(f"no native ops go with it, every lat node runs as its ONNX function body: {native.describe()}")
    if tensors.model != PORTABLE_MODEL and tensors.backend != "tensorrt":
        version = tensors.bundle.manifest["build"].get("onnxruntime")
        notes.append(f"{tensors.model} was optimised by onnxruntime {version}: an older one may lack its fused ops")
    if no_text:
        notes.append(no_text)
    return [*notes, *_unproved(tensors.bundle)]


def _unproved(bundle: Bundle) -> list[str]:
    """What no validation stands behind."""
    validated = bundle.manifest["validated"]
    if validated is None:
        return ["not validated: the bundle was exported with --no-validate"]
    return [f"not validated: {subject}: {verdict}" for subject, verdict in validated.items() if verdict != PASSED]


FORMAT = TritonFormat()
