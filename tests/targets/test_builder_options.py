"""Options of the builder: refused where the library has them not, else set, recorded and told again.

`--to trt` is driven with a module that plays TensorRT (tests/tensorrt_api/played): it enforces the recorded names and
signatures of real versions, and is not TensorRT.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN, ROOT

from lat_export import native, revalidation
from lat_export.cli.engine_options import OPTIONS
from lat_export.cli.model import model
from lat_export.dry_run import dry_run
from lat_export.engine_options import FLAGS, EngineOptions, parse_capability, parse_size
from lat_export.environment import gpu_count
from lat_export.errors import InputError, LatExportError, MissingError
from lat_export.pipeline import Exported, export
from lat_export.remake import export_command
from lat_export.targets import TARGETS
from lat_export.targets.tensorrt_run import RuntimeCache
from lat_export.targets.trt_kit import RTX_ALONE
from lat_export.targets.trt_options import NEEDS
from lat_export.types import ModelSpec, Range

CHECKPOINT = GOLDEN / "longformer" / "text-classification" / "checkpoint"
RTX_LACK = TARGETS["trt-rtx"].missing()
needs_rtx = pytest.mark.skipif(RTX_LACK is not None, reason=f"TensorRT-RTX is missing: {RTX_LACK}")
no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
PLAYED = ROOT / "tests" / "tensorrt_api" / "played"
VERSIONS = ("10.8.0.43", "10.16.1.11", "11.0.0.114", "11.4.0.106")
OLDEST_AND_NEWEST = pytest.mark.parametrize("played", [VERSIONS[0], VERSIONS[-1]], indirect=True)
NEWEST = pytest.mark.parametrize("played", [VERSIONS[-1]], indirect=True)
ALL = EngineOptions(
    workspace_bytes=2**29,
    opt_level=5,
    timing_cache=Path("kernels.cache"),
    version_compatible=True,
    hardware_compatible="ampere+",
    strip_weights=True,
    refittable=True,
    profiling_verbosity="detailed",
    embed_plugins=True,
    compute_capabilities=("8.6", "12.0"),
    runtime_cache=Path("rtx.cache"),
)


def spec(out: Path, target: str = "trt-rtx", checkpoint: Path = CHECKPOINT, **options: Any) -> ModelSpec:
    sizes = {"sequence": Range(1, 8, 16), "batch": Range(1, 1, 2)}
    return ModelSpec(str(checkpoint), target, out, engine=EngineOptions(**options), validate=False, **sizes)


@pytest.fixture(params=VERSIONS)
def played(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """`--to trt` meets a module that plays this version of TensorRT."""
    if TARGETS["trt"].missing() is None:
        pytest.skip("TensorRT itself is installed here")
    monkeypatch.syspath_prepend(PLAYED)
    monkeypatch.setenv("PYTHONPATH", str(PLAYED), prepend=":")
    monkeypatch.setenv("PLAYED_TENSORRT", request.param)
    version: str = request.param
    return version


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What a build with two TensorRT plugins leaves, as far as a build of an engine looks at it."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    contents = {
        "kernels": [], "onnxruntime": [], "archs": [], "compiler": "", "left_out": {}, "cuda": [],
        "cuda_archs": ["sm_90"], "tensorrt": ["banded_window_attention"], "tensorrt_major": "11",
    }  # fmt: skip
    (folder / native.CONTENTS).write_text(json.dumps(contents))
    (folder / native.KERNELS_LIBRARY).touch()
    (folder / native.TENSORRT_LIBRARY).touch()
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(folder))
    return folder / native.TENSORRT_LIBRARY


def plan_of(made: Exported) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((made.bundle.folder / "model.trt.engine").read_bytes())
    return plan


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512M", 2**29), ("2G", 2**31), ("3k", 3072), ("1GiB", 2**30), ("7MB", 7 * 2**20)],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1.5G", "512T", "0", "0M", "1 2"])
def test_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="number of bytes"):
        parse_size(text)


def test_capability_is_read() -> None:
    assert [parse_capability(text) for text in ("8.6", "86", "sm_86", "12.0", "120", "current")] == [
        "8.6", "8.6", "8.6", "12.0", "12.0", "current",
    ]  # fmt: skip
    for text in ("8", "8.6.1", "ampere", "", "1234"):
        with pytest.raises(InputError, match="no such compute capability"):
            parse_capability(text)


@pytest.mark.parametrize(
    "options",
    [
        {"opt_level": 6}, {"opt_level": -1}, {"hardware_compatible": "turing"}, {"profiling_verbosity": "loud"},
        {"workspace_bytes": 0}, {"compute_capabilities": ("8.6", "8.6")},
    ],
    ids=str,
)  # fmt: skip
def test_value_that_no_library_has_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        EngineOptions(**options)


def test_every_option_is_known_everywhere() -> None:
    names = {field.name for field in fields(EngineOptions)}
    assert names == set(FLAGS) == set(NEEDS) == set(ALL.given)
    parameters = {parameter.name: parameter.opts[0] for parameter in model.params}
    assert {name: parameters[name] for name in names} == FLAGS
    assert len(OPTIONS) == len(names)


def test_command_that_makes_it_again_has_every_option() -> None:
    command = export_command(replace(spec(Path("out")), engine=replace(ALL, timing_cache=Path("/somewhere/k.cache"))))
    assert "/somewhere" not in command
    parsed = model.make_context("model", command.split()[2:]).params
    assert {name: parsed[name] for name in FLAGS} == {**vars(ALL), "timing_cache": Path("k.cache")}


def test_options_come_back_from_the_manifest() -> None:
    kept = EngineOptions.from_json(json.loads(json.dumps(ALL.to_json())))
    assert kept == replace(ALL, runtime_cache=None)  # of a run, not of the engine
    assert EngineOptions.from_json({}) == EngineOptions()


REFUSED = {
    "timing_cache": (Path("x"), InputError, "no-ops in TensorRT-RTX"),
    "version_compatible": (True, InputError, "libnvinfer_lean.so.1"),
    "hardware_compatible": ("ampere+", InputError, "--compute-capability 8.6"),
    "embed_plugins": (True, InputError, "it has no plugins"),
    "compute_capabilities": (("9.0",), InputError, "expected: 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"),
}
NEEDS_GPU = dict.fromkeys(("strip_weights", "refittable"), (True, MissingError, "CHECK(status == CUDA_SUCCESS)"))


@needs_rtx
@no_gpu
@pytest.mark.parametrize("name", [*REFUSED, *NEEDS_GPU])
def test_rtx_is_not_asked_for_what_it_has_not(name: str, tmp_path: Path) -> None:
    value, kind, words = {**REFUSED, **NEEDS_GPU}[name]
    told: list[str] = []
    with pytest.raises(kind) as caught:
        export(spec(tmp_path / "out", **{name: value}), told.append)
    assert words in str(caught.value)
    assert FLAGS[name] in caught.value.what
    assert caught.value.hint or name == "compute_capabilities"
    assert told == []  # nothing was loaded, let alone built
    assert list(tmp_path.iterdir()) == []
    found = dry_run(spec(tmp_path / "out", **{name: value}))
    assert [f.what for f in found.findings if f.severity == "error"] == [caught.value.what]


@needs_rtx
def test_rtx_builds_with_what_it_has(tmp_path: Path) -> None:
    options = {"workspace_bytes": 2**28, "opt_level": 0, "profiling_verbosity": "detailed"}
    made = export(spec(tmp_path / "out", compute_capabilities=("8.6",), **options))
    plan = made.bundle.manifest["plan"]["options"]
    assert plan == {**options, "compute_capabilities": ["8.6"]}
    assert made.bundle.plan.options == EngineOptions(compute_capabilities=("8.6",), **options)


@needs_rtx
def test_workspace_reaches_the_builder(tmp_path: Path) -> None:
    with pytest.raises(LatExportError, match="workspace"):
        export(spec(tmp_path / "out", workspace_bytes=1))
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_compute_capabilities_reach_the_builder(tmp_path: Path) -> None:
    """Turing has no float32 GEMM in TensorRT-RTX, in its own words."""
    with pytest.raises(LatExportError, match="Turing"):
        export(spec(tmp_path / "out", compute_capabilities=("7.5",)))


class PlayedEngine:
    """TensorRT-RTX's runtime objects, as its stubs have them; no GPU is needed for none."""

    def __init__(self) -> None:
        self.read: bytes | None = None
        self.context: Any = None

    def create_runtime_config(self) -> PlayedEngine:
        return self

    def create_runtime_cache(self) -> PlayedEngine:
        return self

    def deserialize(self, blob: bytes) -> bool:
        self.read = blob
        return False  # as for a cache of another GPU: it starts empty

    def set_runtime_cache(self, cache: PlayedEngine) -> bool:
        return cache is self

    def create_execution_context(self, config: PlayedEngine) -> str:
        return "a context" if config is self else "without cache"

    def serialize(self) -> bytes:
        return b"compiled;" + (self.read or b"")


def test_runtime_cache_is_read_and_written_whole(tmp_path: Path) -> None:
    file, engine = tmp_path / "deep" / "rtx.cache", PlayedEngine()
    first = RuntimeCache.of(engine, file)
    assert (first.context, engine.read) == ("a context", None)
    first.save()
    assert file.read_bytes() == b"compiled;"
    RuntimeCache.of(engine, file).save()
    assert (engine.read, file.read_bytes()) == (b"compiled;", b"compiled;compiled;")
    assert [path.name for path in file.parent.iterdir()] == ["rtx.cache"]


@needs_rtx
def test_validate_takes_a_runtime_cache_for_rtx_alone(exported: Callable[..., Exported], tmp_path: Path) -> None:
    seen: list[Any] = []

    def given(*arguments: Any, **_: Any) -> Any:
        seen.append(arguments[2].options.runtime_cache)
        raise MissingError("seen")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MissingError, match="seen"):
        patch.setattr(revalidation, "validate", given)
        folder = exported("text-classification", "trt-rtx", "yoso").bundle.folder
        revalidation.revalidate(folder, runtime_cache=tmp_path / "rtx.cache")
    assert seen == [tmp_path / "rtx.cache"]
    folder = exported("text-classification", "onnx", "yoso").bundle.folder
    with pytest.raises(InputError, match="a runtime cache is of engines"):
        revalidation.revalidate(folder, runtime_cache=tmp_path / "rtx.cache")


def test_options_of_no_engine_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    export(spec(tmp_path / "out", "onnx", opt_level=3, embed_plugins=True), told.append)
    (warning,) = (line for line in told if "--opt-level" in line)
    assert "--batch, --opt-level, --embed-plugins: only engines have such limits and options" in warning


def test_tensorrt_is_asked_for_everything(played: str, library: Path, tmp_path: Path) -> None:
    """Every flag by the name that this version has, and nothing that it has not: the played module would refuse it."""
    cache = tmp_path / "kernels.cache"
    options = {
        name: value for name, value in ALL.given.items() if name not in ("compute_capabilities", "runtime_cache")
    }
    made = export(spec(tmp_path / "out", "trt", **{**options, "timing_cache": cache}))
    plan = plan_of(made)
    assert plan["played"] == played
    assert plan["flags"] == ["REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"]  # and no TF32
    assert plan["pools"] == {"WORKSPACE": 2**29}
    assert plan["builder_optimization_level"] == 5
    assert plan["hardware_compatibility_level"] == "AMPERE_PLUS"
    assert plan["profiling_verbosity"] == "DETAILED"
    assert plan["plugins_to_serialize"] == [str(library)]
    assert plan["profiles"] == [{name: [[1, 1], [1, 8], [2, 16]] for name in plan["io"]}]
    written = sha256(cache.read_bytes()).hexdigest()
    assert made.bundle.manifest["build"]["timing_cache"] == {"read_sha256": None, "written_sha256": written, "bytes": 6}
    assert made.bundle.manifest["plan"]["options"]["timing_cache"] == "kernels.cache"
    assert not list(tmp_path.glob(".kernels*"))


@OLDEST_AND_NEWEST
def test_timing_cache_is_read_and_written_again(played: str, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "kernels.cache"
    first = export(spec(tmp_path / "a", "trt", timing_cache=cache)).bundle.manifest["build"]["timing_cache"]
    second = export(spec(tmp_path / "b", "trt", timing_cache=cache)).bundle.manifest["build"]["timing_cache"]
    assert cache.read_bytes() == b"timed;timed;"
    assert second["read_sha256"] == first["written_sha256"] != second["written_sha256"]
    cache.write_bytes(b"other GPU's")
    with pytest.raises(LatExportError, match=r"kernels\.cache is of another GPU or version"):
        export(spec(tmp_path / "c", "trt", timing_cache=cache))
    assert cache.read_bytes() == b"other GPU's"
    assert not (tmp_path / "c").exists()


@OLDEST_AND_NEWEST
def test_strip_alone_keeps_this_checkpoints_weights(played: str, tmp_path: Path) -> None:
    made = export(spec(tmp_path / "out", "trt", strip_weights=True))
    assert plan_of(made)["flags"] == ["REFIT_IDENTICAL", "STRIP_PLAN"]


@pytest.mark.parametrize("played", ["10.8.0.43"], indirect=True)
def test_value_that_this_version_has_not_is_refused(played: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same-compute-capability") as caught:
        export(spec(tmp_path / "out", "trt", hardware_compatible="same-compute-capability"))
    assert "no HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY in its Python module tensorrt" in str(caught.value)


@pytest.mark.parametrize("played", ["11.4.0.106"], indirect=True)
@pytest.mark.parametrize("name", RTX_ALONE)
def test_tensorrt_is_not_asked_for_what_is_of_rtx(name: str, played: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"TensorRT of this machine does not have {FLAGS[name]}"):
        export(spec(tmp_path / "out", "trt", **{name: ALL.given[name]}))


@OLDEST_AND_NEWEST
def test_plugins_are_loaded_and_the_report_tells_which_nodes_they_run(
    played: str, library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLAYED_PLUGINS", "BandedWindowAttention")
    monkeypatch.setenv("PLAYED_GPU", "1")
    told: list[str] = []
    made = export(spec(tmp_path / "out", "trt"), told.append)
    plan = plan_of(made)
    assert plan["loaded"] == [str(library)]
    assert plan["plugins_to_serialize"] == []
    assert made.bundle.manifest["build"]["checked"] == "deserialised"  # the runtime's registry had it too
    forms = made.bundle.forms
    assert {name.rpartition(".")[2]: form for name, form in forms.items()} == {
        "BandedWindowAttention": "plugin",
        "GlobalTokenAttention": "body",
    }
    (warning,) = (line for line in told if "function bodies" in line)
    assert f"{list(forms.values()).count('body')} of {len(forms)} lat nodes" in warning
    assert "the plugin library has none for layer.0.GlobalTokenAttention" in warning


@NEWEST
def test_without_a_library_every_node_is_a_body_and_is_told(
    played: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "none"))
    told: list[str] = []
    made = export(spec(tmp_path / "out", "trt"), told.append)
    assert set(made.bundle.forms.values()) == {"body"}
    (warning,) = (line for line in told if "function bodies" in line)
    assert "slower than plugins: no liblat_trt.so in" in warning
    assert warning.removeprefix("warning: ") in made.bundle.manifest["warnings"]
    with pytest.raises(MissingError, match="TensorRT plugins are missing"):
        export(spec(tmp_path / "again", "trt", embed_plugins=True))


@OLDEST_AND_NEWEST
def test_embedded_plugins_need_no_library_beside_the_engine(
    played: str, library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLAYED_PLUGINS", "BandedWindowAttention")
    monkeypatch.setenv("PLAYED_GPU", "1")
    made = export(spec(tmp_path / "out", "trt", embed_plugins=True))
    assert made.bundle.manifest["build"]["checked"] == "deserialised"
    target = TARGETS["trt"]
    assert target.loaded_for(made.bundle.plan) == ()
    assert target.loaded_for(replace(made.bundle.plan, options=EngineOptions())) == (library,)


@OLDEST_AND_NEWEST
def test_refusal_of_the_parser_names_the_node(played: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLAYED_PARSER", "no importer")
    with pytest.raises(InputError, match="no importer"):
        export(spec(tmp_path / "out", "trt"))
    assert not (tmp_path / "out").exists()


def test_kit_tells_trtexec_the_options(tmp_path: Path) -> None:
    options = {
        name: value for name, value in ALL.given.items() if name not in ("compute_capabilities", "runtime_cache")
    }
    made = export(replace(spec(tmp_path / "kit", "trt", **options), kit=True))
    lines = (made.bundle.folder / "trtexec.args").read_text().splitlines()
    assert lines[:8] == [
        f"--memPoolSize=workspace:{2**29}B",
        "--builderOptimizationLevel=5",
        "--timingCacheFile=kernels.cache",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+",
        "--stripWeights",
        "--refit",
        "--profilingVerbosity=detailed",
    ]
    facts = json.loads((made.bundle.folder / "kit.json").read_text())
    assert facts["options"] == made.bundle.manifest["plan"]["options"]
    with pytest.raises(InputError, match="--compute-capability and --runtime-cache"):
        export(replace(spec(tmp_path / "no"), target="trt", kit=True, engine=ALL))
