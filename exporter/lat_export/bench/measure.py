"""The whole way: subjects, points, rounds, figures."""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lat_export.bench.child import Child, Job
from lat_export.bench.compare import compare
from lat_export.bench.floor import LinearLayer, linear_layers
from lat_export.bench.given import CONFIG, Given
from lat_export.bench.result import BenchResult, Floor, PointResult
from lat_export.bench.rounds import Lockstep, Measured, Plan
from lat_export.bench.subjects import SUBJECTS
from lat_export.bench.sweep import Point, point_inputs
from lat_export.environment import provenance
from lat_export.errors import InputError
from lat_export.native import plugins
from lat_export.scratch import scratch_folder
from lat_export.targets import PORTABLE_MODEL

FLOOR_SUBJECT = "gemm"
USUAL_PLAN = Plan()
# What of config.json says how much a model computes.
CONFIG_NUMBERS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "attention_window",
    "num_landmarks",
    "segment_means_seq_len",
    "conv_kernel_size",
    "use_expectation",
    "num_hash",
    "hash_code_len",
    "conv_window",
)


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        subjects: names; none for all that can run and do not cost minutes.
        baseline: what the others are compared with; None for the fastest of PyTorch's, else the first.
        threads: of every subject.
    """

    subjects: tuple[str, ...] = ()
    baseline: str | None = None
    threads: int = 1
    plan: Plan = USUAL_PLAN


@dataclass(frozen=True)
class Chosen:
    """A subject to measure."""

    name: str
    kind: str


def usual_threads() -> int:
    """As many as there are processors for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(given: Given, asked: Sequence[str]) -> tuple[list[Chosen], dict[str, str]]:
    """The subjects to measure, and why others of the usual ones are left out.

    Raises:
        InputError: an unknown name.
        MissingError: one that was asked for cannot run here.
    """
    kinds = {name: kind for kind in SUBJECTS.values() if kind.name != FLOOR_SUBJECT for name in kind.names(given)}
    for name in asked:
        if name not in kinds:
            of_others = SUBJECTS[name].belongs_to if name in SUBJECTS else None
            hint = f"{name} is of {of_others}" if of_others else None
            raise InputError(f"unknown subject {name!r}", got=name, expected=", ".join(kinds), hint=hint)
    chosen, left_out = [], {}
    for name, kind in sorted(kinds.items(), key=lambda pair: not pair[1].is_pytorch):
        if asked and name not in asked:
            continue
        lack = kind.lack(given)
        if lack is not None and asked:
            raise lack
        if lack is not None:
            left_out[name] = lack.what + (f"; {lack.hint}" if lack.hint else "")
        elif kind.only_when_named and not asked:
            left_out[name] = f"only with --subject {name}: {kind.only_when_named}"
        else:
            chosen.append(Chosen(name, kind.name))
    return chosen, left_out


def measure(
    given: Given, points: Sequence[Point], settings: Settings, tell: Callable[[str], None] = lambda _: None
) -> BenchResult:
    """Measure every chosen subject at every point.

    Each subject of a point has a fresh process, so that a peak of memory is of that point alone; all of a point are in
    memory at the same time, and one computes at a time.

    Raises:
        InputError: an unknown subject or baseline.
        MissingError: a subject that was asked for cannot run here.
    """
    chosen, left_out = choose(given, settings.subjects)
    names = [subject.name for subject in chosen]
    if settings.baseline is not None and settings.baseline not in names:
        raise InputError("the baseline is not measured", got=settings.baseline, expected=", ".join(names))
    for name, why in left_out.items():
        tell(f"{name} is left out: {why}")
    on_cpu = any(not SUBJECTS[subject.kind].on_gpu for subject in chosen)
    layers = linear_layers(given.bundle.folder / PORTABLE_MODEL) if on_cpu else []  # the floor is the CPU's
    found = plugins() if given.native_ops else None
    surroundings = {**provenance(), "instruction_set": found.arch if found else None}
    load_before = os.getloadavg()
    results = []
    with scratch_folder() as scratch:
        for point in points:
            tell(f"{point}:")
            results.append(_measure_point(given, point, chosen, settings, layers, scratch, tell))
    plan = settings.plan
    return BenchResult(
        model=_model(given),
        subjects={subject.name: SUBJECTS[subject.kind].title for subject in chosen},
        settings={"threads": settings.threads, "warm_up": plan.warm_up, "repeat": plan.repeat},
        left_out=left_out,
        points=tuple(results),
        surroundings={**surroundings, "load_average": {"before": load_before, "after": os.getloadavg()}},
    )


def _measure_point(
    given: Given,
    point: Point,
    chosen: Sequence[Chosen],
    settings: Settings,
    layers: list[LinearLayer],
    scratch: Path,
    tell: Callable[[str], None],
) -> PointResult:
    folder = scratch / str(point).replace(" ", "-")
    folder.mkdir()
    inputs = folder / "inputs.npz"
    np.savez(inputs, **point_inputs(given.bundle.signature, point))  # type: ignore[arg-type]

    def start(subject: Chosen) -> Child:
        own = folder / subject.name.replace(os.sep, "_")
        own.mkdir()
        arguments = SUBJECTS[subject.kind].arguments(given, subject.name, point)
        return Child(Job(subject.name, subject.kind, arguments, inputs, settings.threads), own)

    of_all = [*chosen, *([Chosen(FLOOR_SUBJECT, FLOOR_SUBJECT)] if layers else [])]
    lockstep = Lockstep([(subject.name, partial(start, subject)) for subject in of_all], tell)
    measured = lockstep.measure(settings.plan)
    shutil.rmtree(folder, ignore_errors=True)
    pytorch = [subject.name for subject in chosen if SUBJECTS[subject.kind].is_pytorch]
    on_gpu = [subject.name for subject in chosen if SUBJECTS[subject.kind].on_gpu]
    floor = _floor(given, point, measured.pop(), layers) if layers else None
    return compare(point, measured, floor, settings.baseline, pytorch, on_gpu)


def _floor(given: Given, point: Point, product: Measured, layers: list[LinearLayer]) -> Floor | None:
    if product.error is not None:
        return None
    operations = sum(layer.operations(point.sizes) for layer in layers)
    arguments = SUBJECTS[FLOOR_SUBJECT].arguments(given, FLOOR_SUBJECT, point)
    shape = arguments["rows"], arguments["inner"], arguments["columns"]
    of_one = 2 * shape[0] * shape[1] * shape[2]
    products = product.opened["operations"] // of_one
    product_s = [seconds / products for seconds in product.seconds]
    rate = of_one / statistics.median(product_s)
    return Floor(operations, shape, product_s, rate, operations / rate)


def _model(given: Given) -> dict[str, Any]:
    manifest = given.bundle.manifest
    config = json.loads((given.bundle.folder / CONFIG).read_text())
    return {
        "family": manifest["signature"]["family"],
        "task": manifest["signature"]["task"],
        "options": manifest["options"],
        "outputs": [output["name"] for output in manifest["signature"]["outputs"]],
        "config": {name: config[name] for name in CONFIG_NUMBERS if name in config},
        "forms": sorted(set(given.bundle.forms.values())),
    }
