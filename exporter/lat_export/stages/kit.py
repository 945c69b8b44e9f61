"""kit: a bundle that holds no engine -> a folder that builds one and compares it, without lat-export.

Into the bundle go the sources of `kit/` and `plugins/` of the checkout, `kit.json` (profile, cases, and by what each
output is judged: decided here, measured there), `trtexec.args`, and `SHA256SUMS` of what the build reads.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lat_export import __version__, native
from lat_export.digest import file_sha256
from lat_export.errors import MissingError
from lat_export.stages.kit_trtexec import trtexec_words
from lat_export.targets import BuildPlan, Built
from lat_export.targets.tensorrt_target import profiles_of
from lat_export.targets.trt_kit import KIT, KIT_MODEL
from lat_export.types import PLUGIN, Signature, size_with_globals
from lat_export.validation.check import Judge, tolerance_of, usual_norm, usual_sizes, within
from lat_export.validation.golden import TENSORS_FILE, Golden, GoldenCase, case_prefix, sequence_axes, whole_shape

SCHEMA = 1
FACTS_FILE = "kit.json"
TRTEXEC_FILE = "trtexec.args"
DIGESTS_FILE = "SHA256SUMS"
README_FILE = "README.md"
ROLE = "kit"

KIT_SOURCES = native.SOURCES.parent / "kit"
# Of the sources: all kinds that a build reads, without tests and the device that the host plays for them.
SOURCE_SUFFIXES = (".txt", ".cmake", ".map", ".sh", ".py", ".h", ".cpp", ".cu", ".cuh", ".json", ".md")
NOT_IN_A_KIT = ("cuda_on_host/*", "*_test.cpp")
# What lat-export builds engines with, as it is: build_engine.py calls it.
ENGINE_BUILDER = Path(__file__).resolve().parents[1] / "targets" / "tensorrt_build.py"


def write_kit(folder: Path, built: Built, plan: BuildPlan, signature: Signature, judge: Judge, command: str) -> Built:
    """Add to the artifacts in `folder` what makes them a kit.

    Args:
        folder: with the models and, unless the export was not validated, golden tensors.
        judge: by what the engine's outputs are judged.
        command: the export's own, for the README.
    Returns:
        What was given, with a role for every file.
    """
    before = _files(folder)
    _copy_sources(folder)
    prebuilt = _copy_prebuilt(folder)
    golden = Golden(folder) if (folder / TENSORS_FILE).is_file() else None
    facts = {
        "schema": SCHEMA,
        "lat_export": __version__,
        "model": KIT_MODEL,
        "engine": KIT.engine_file,
        "precision": judge.precision,
        "inputs": [spec.name for spec in signature.inputs],
        "profiles": profiles_of(signature.inputs, plan),
        "options": plan.options.to_json(),
        "max_global": plan.max_global,
        "prebuilt": prebuilt,
        **cases_of(golden, signature, plan, judge),
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n")
    (folder / TRTEXEC_FILE).write_text("".join(f"{line}\n" for line in trtexec_words(facts["profiles"], plan.options)))
    _write_readme(folder / README_FILE, built, plan, signature, facts, command)
    _write_digests(folder)
    added = sorted(_files(folder) - before)
    return replace(built, roles={**built.roles, **dict.fromkeys(added, ROLE)})


def sources() -> Iterator[tuple[Path, str]]:
    """Every source file of a kit, and its name there."""
    for root, place in ((KIT_SOURCES, ""), (native.SOURCES, f"{native.SOURCES.name}/")):
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and path.suffix in SOURCE_SUFFIXES and not any(map(name.match, NOT_IN_A_KIT)):
                yield path, place + name.as_posix()
    yield ENGINE_BUILDER, ENGINE_BUILDER.name


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _copy_sources(folder: Path) -> None:
    for path, name in sources():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)  # build.sh stays executable


def _copy_prebuilt(folder: Path) -> dict[str, Any] | None:
    """The plugin library that this machine has built, for targets like it; None where it has none."""
    try:
        library = native.tensorrt_library()
    except MissingError:
        return None
    found = native.plugins()
    assert found is not None
    place = Path("prebuilt", platform.machine(), library.name)
    (folder / place).parent.mkdir(parents=True)
    shutil.copy(library, folder / place)
    return {
        "library": place.as_posix(),
        "ops": list(found.tensorrt),
        "cuda_archs": list(found.cuda_archs),
        "tensorrt_major": found.tensorrt_major,
    }


def cases_of(golden: Golden | None, signature: Signature, plan: BuildPlan, judge: Judge) -> dict[str, Any]:
    """The golden cases that the artifact takes, and by what each of their outputs is judged, for kit.json."""
    if golden is None:
        return {"cases": [], "left_out": 0}
    usual, cases, left_out = usual_sizes(golden), [], 0
    for index, case in enumerate(golden):
        if not within(case, signature, plan):
            left_out += 1
            continue
        outputs = {spec.name: _bar(case, spec.name, signature, judge, usual) for spec in signature.outputs}
        cases.append({"name": case.case.name, "tensors": case_prefix(index), "outputs": outputs})
    return {"cases": cases, "left_out": left_out}


def _bar(golden: GoldenCase, name: str, signature: Signature, judge: Judge, usual: dict[str, float]) -> dict[str, Any]:
    """As kit/lat_run/compare.h takes it: the rules of `lat_export.validation.check`, worked out for one output."""
    (spec,) = (spec for spec in signature.outputs if spec.name == name)
    tolerance, remark = tolerance_of(golden, name, judge)
    most = signature.most_globals(golden.inputs)
    counts_globals = bool(spec.dims) and size_with_globals(spec.dims[-1], most) != spec.dims[-1]
    return {
        "relative_l2": tolerance,
        "least_norm": usual_norm(golden.outputs[name], usual[name]),
        "dtypes": [spec.dtype] if judge.precision == "fp32" else ["float32", "float16", "bfloat16"],
        "shape": list(whole_shape(golden, name, signature)),
        "rows_axis": None if golden.rows is None else sequence_axes(signature).get(name),
        "first_empty_column": most if counts_globals else None,
        "remark": remark,
    }


def _write_readme(
    path: Path, built: Built, plan: BuildPlan, signature: Signature, facts: dict[str, Any], command: str
) -> None:
    """Fill the places of kit/README.md, which `_copy_sources` put there."""
    tolerances = sorted({bar["relative_l2"] for case in facts["cases"] for bar in case["outputs"].values()})
    ranges = [f"- {', '.join(f'{dim} {sizes}' for dim, sizes in profile.items())}" for profile in plan.texts]
    if signature.multiple_of > 1:
        ranges.append(f"- sequence is a multiple of {signature.multiple_of}: pad with attention_mask 0")
    if plan.max_global is not None:
        ranges.append(f"- global tokens in a row: at most {plan.max_global}")
    prebuilt = facts["prebuilt"]
    places = {
        "FAMILY": signature.family,
        "TASK": signature.task,
        "VERSION": __version__,
        "COMMAND": command,
        "SIZES": "\n".join(ranges),
        "FORMS": _forms(built.forms),
        "PREBUILT": _prebuilt_words(prebuilt) if prebuilt else "",
        "CASES": _case_words(len(facts["cases"]), facts["left_out"]),
        "TOLERANCE": " to ".join(f"{value:.0e}" for value in dict.fromkeys((tolerances[0], tolerances[-1])))
        if tolerances
        else "none here",
        "SAMPLED": SAMPLED_WORDS if any(bar["remark"] for c in facts["cases"] for bar in c["outputs"].values()) else "",
    }
    text = path.read_text()
    for name, words in places.items():
        text = text.replace(f"@{name}@", words)
    path.write_text(text)


SAMPLED_WORDS = """Where a hash code may flip (sampled
attention), the tolerance is how far two right programs may be apart; its nodes one by one are compared only where the
model was exported."""


def _forms(forms: dict[str, str]) -> str:
    """As a list of ops, and what runs each."""
    counts = Counter((name.rpartition(".")[2], form) for name, form in forms.items())
    words = {PLUGIN: "a TensorRT plugin, compiled here from `plugins/`"}
    lines = [
        f"- {op}, {count} nodes: {words.get(form, 'its ONNX function body')}" for (op, form), count in counts.items()
    ]
    return "\n".join(lines) or "No op of ours: it is standard ONNX."


def _prebuilt_words(prebuilt: dict[str, Any]) -> str:
    return (
        f"`./build.sh --prebuilt` takes `{prebuilt['library']}`, built for {', '.join(prebuilt['cuda_archs'])} with "
        f"the headers of TensorRT {prebuilt['tensorrt_major']}, instead of compiling the plugins."
    )


def _case_words(count: int, left_out: int) -> str:
    if not count:
        return "Nothing: the model was exported with `--no-validate`, so there are no golden tensors."
    more = f" ({left_out} more are outside of the engine's sizes)" if left_out else ""
    return f"{count} cases{more}: lengths, paddings and global tokens at which attention goes wrong."


def _write_digests(folder: Path) -> None:
    """Of all that lies there now, as `sha256sum --check` takes it."""
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in sorted(_files(folder) - {DIGESTS_FILE})]
    (folder / DIGESTS_FILE).write_text("".join(lines))
