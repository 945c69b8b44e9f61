"""Optimisation profiles, one or several: how they are written, checked, built, and taken by a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import GOLDEN

from lat_export.cli.model import model
from lat_export.dry_run import dry_run
from lat_export.errors import InputError, ShapeError
from lat_export.pipeline import Exported, export
from lat_export.profiles import named_profiles, parse_profile, profile_holding, profile_text
from lat_export.remake import export_command
from lat_export.revalidation import revalidate
from lat_export.targets import TARGETS, BuildPlan, tensorrt_run
from lat_export.types import ModelSpec, Range
from lat_export.validation.check import within
from lat_export.validation.golden import Golden
from lat_export.validation.report import PASSED

CHECKPOINT = GOLDEN / "longformer" / "text-classification" / "checkpoint"
LANDMARKS = GOLDEN / "nystromformer" / "token-classification" / "checkpoint"
SHORT, LONG = parse_profile("batch=1:2:3,seq=1:16:32"), parse_profile("batch=1:1:1,seq=100:128:200")
RTX_LACK = TARGETS["trt-rtx"].missing()
needs_rtx = pytest.mark.skipif(RTX_LACK is not None, reason=f"TensorRT-RTX is missing: {RTX_LACK}")


def spec(checkpoint: Path, *profiles: str, target: str = "trt-rtx", **rest: Any) -> ModelSpec:
    return ModelSpec(str(checkpoint), target, Path("out"), profiles=tuple(map(parse_profile, profiles)), **rest)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("profiles") / "out"
    return export(ModelSpec(str(CHECKPOINT), "trt-rtx", out, profiles=(SHORT, LONG), max_global=4))


def test_profile_is_read_as_it_is_written() -> None:
    text = "batch=1:1:4,seq=128:512:512,choices=2:2:2"
    assert parse_profile(text) == {"batch": Range(1, 1, 4), "sequence": Range(128, 512, 512), "choices": Range(2, 2, 2)}
    assert profile_text(parse_profile(text)) == text
    assert parse_profile(" seq = 512 ") == {"sequence": Range(512, 512, 512)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch=4:1:1", "1 <= MIN <= OPT <= MAX"),
        ("seq=512:128:1024", "1 <= MIN <= OPT <= MAX"),
        ("batch=0:1:1", "1 <= MIN <= OPT <= MAX"),
        ("batch=1:2", "MIN:OPT:MAX or one number"),
        ("length=1", "names out of batch, seq, choices"),
        ("batch", "NAME=MIN:OPT:MAX"),
        ("", "NAME=MIN:OPT:MAX"),
        ("batch=1,", "NAME=MIN:OPT:MAX"),
        ("batch=1,batch=2", "names batch twice"),
    ],
)
def test_profile_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_profile(text)
    assert words in str(caught.value)


def test_sizes_are_named_in_one_way() -> None:
    with pytest.raises(InputError, match="named in two ways") as caught:
        named_profiles(spec(CHECKPOINT, "seq=16", batch=Range(1, 1, 2)))
    assert caught.value.hint == "--profile batch=1:1:2,seq=16:16:16"
    assert named_profiles(spec(CHECKPOINT)) == ({},)


def test_first_profile_that_holds_a_call_is_taken() -> None:
    sizes = {"batch": 1, "sequence": 32}
    assert profile_holding((LONG, SHORT, SHORT), sizes) == 1
    assert profile_holding((LONG,), sizes) is None
    assert profile_holding((), sizes) is None
    assert profile_holding(({},), sizes) == 0


@pytest.mark.parametrize(
    ("checkpoint", "profiles", "words"),
    [
        (CHECKPOINT, ("seq=1:8:16", "seq=16:64:100000"), "--profile seq=16:64:256"),
        (LANDMARKS, ("seq=8:16:32", "seq=8:20:32"), "--profile seq=8:24:32"),
        (CHECKPOINT, ("seq=16", "batch=1:1:8,seq=16"), "the same profile twice"),
        (CHECKPOINT, ("seq=16", "choices=1:2:2"), "expected: batch, seq"),
    ],
    ids=["positions", "landmarks", "twice", "choices"],
)
def test_every_profile_is_checked_before_anything_is_built(
    checkpoint: Path, profiles: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    asked = replace(spec(checkpoint, *profiles), out=tmp_path / "out")
    for attempt in (lambda: export(asked), lambda: dry_run(asked)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_engine_has_all_profiles_and_the_manifest_keeps_them(made: Exported) -> None:
    plan = made.bundle.plan
    assert plan.profiles == (SHORT, LONG)
    build = made.bundle.manifest["build"]
    assert build["profiles"] == [
        {"batch": "1:2:3", "sequence": "1:16:32"},
        {"batch": "1:1:1", "sequence": "100:128:200"},
    ]


@needs_rtx
def test_cases_are_of_every_profile_and_of_nothing_between(made: Exported) -> None:
    golden = Golden(made.bundle.folder)
    lengths = {case.inputs["input_ids"].shape[1] for case in golden}
    assert {1, 16, 32, 100, 128, 200} <= lengths
    assert not [n for n in lengths if 32 < n < 100 or n > 200]
    assert made.report is not None
    again = revalidate(made.bundle.folder)
    for report in (made.report, again):
        assert report.subjects[1].verdict == PASSED
        assert {1, 32, 200} <= {int(row.case.split("N=")[1].split()[0]) for row in report.subjects[1].rows}


@needs_rtx
def test_a_case_between_the_profiles_is_left_out(made: Exported) -> None:
    golden = Golden(made.bundle.folder)
    signature = made.bundle.signature
    held = [within(case, signature, made.bundle.plan) for case in golden]
    only_long = [within(case, signature, BuildPlan(LONG, 4)) for case in golden]
    only_short = [within(case, signature, BuildPlan(SHORT, 4)) for case in golden]
    assert held == [a or b for a, b in zip(only_long, only_short, strict=True)]
    assert any(only_long)
    assert any(only_short)


@needs_rtx
def test_run_takes_the_profile_that_holds_its_sizes(made: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Polygraphy's runner played: on a machine without a GPU none can be opened."""
    calls: list[Any] = []

    class Played:
        def set_profile(self, index: int) -> None:
            calls.append(index)

        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            calls.append(inputs["input_ids"].shape)
            return {"logits": np.zeros(1)}

    @contextmanager
    def opened(*_: Any) -> Iterator[Played]:
        yield Played()

    monkeypatch.setattr(tensorrt_run, "open_engine", opened)
    bundle = made.bundle

    def inputs(batch: int, tokens: int) -> dict[str, np.ndarray]:
        return {
            spec.name: np.ones((batch, tokens), np.int64) * (spec.name != "global_attention_mask")
            for spec in bundle.signature.inputs
        }

    with tensorrt_run.open_runner(Path("x"), "tensorrt_rtx", bundle.signature, bundle.plan) as run:
        for batch, tokens in ((1, 100), (2, 32), (1, 200)):
            run(inputs(batch, tokens))
        with pytest.raises(ShapeError, match="no profile of the engine holds") as caught:
            run(inputs(2, 100))
    assert calls == [1, (1, 100), 0, (2, 32), 1, (1, 200)]
    assert "batch=1:2:3,seq=1:16:32 or batch=1:1:1,seq=100:128:200" in str(caught.value)
    calls.clear()
    with tensorrt_run.open_runner(Path("x"), "tensorrt_rtx", bundle.signature, BuildPlan(LONG)) as run:
        run(inputs(1, 100))
    assert calls == [(1, 100)]  # an engine of one profile needs no word


def test_profile_of_an_engine_from_elsewhere_is_asked_of_the_engine() -> None:
    class Played:
        num_optimization_profiles = 2

        def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, int]]:
            return [[(1, 1), (1, 16), (4, 32)], [(1, 100), (1, 128), (2, 200)]][index]

    engine = Played()
    for batch, tokens, index in ((1, 1, 0), (4, 32, 0), (1, 100, 1), (2, 200, 1), (3, 200, 0), (1, 64, 0)):
        shapes = {"input_ids": (batch, tokens), "attention_mask": (batch, tokens)}
        assert tensorrt_run.holding_profile(engine, shapes) == index


def test_command_that_makes_it_again_has_every_profile() -> None:
    command = export_command(spec(CHECKPOINT, "batch=1:1:4,seq=128:512:512", "seq=1:16:32"))
    assert "--profile batch=1:1:4,seq=128:512:512 --profile seq=1:16:32" in command
    words = command.split()[2:]  # without "lat-export model"
    parsed = model.make_context("model", words)
    assert parsed.params["profiles"] == (parse_profile("batch=1:1:4,seq=128:512:512"), parse_profile("seq=1:16:32"))


def test_profile_of_no_engine_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    export(replace(spec(CHECKPOINT, "seq=1:8:16", target="onnx"), out=tmp_path / "out", validate=False), told.append)
    assert "warning: --profile: only engines have such limits and options; a model for ONNX takes any size" in told


def test_dry_run_looks_at_every_profile(made: Exported) -> None:
    """Of a bundle, whose signature is not checked on the way: the second range alone is too long."""
    found = dry_run(spec(made.bundle.folder, "seq=1:8:16", "seq=16:64:300", target="trt"))
    (error,) = (finding for finding in found.findings if finding.severity == "error")
    assert (error.got, error.mend) == ("--profile seq=16:64:300", "--profile seq=16:64:256")
    assert found.to_json()["profile"]["more_profiles"] == [{"batch": "1:1:8", "sequence": "16:64:300"}]
    small = dry_run(spec(made.bundle.folder, "seq=1:8:16", target="trt"))
    assert small.memory.activations_bytes < found.memory.activations_bytes
    kept = dry_run(ModelSpec(str(made.bundle.folder), "trt", Path(), batch=Range(1, 1, 1)))
    assert [profile["sequence"] for profile in kept.plan.profiles] == [SHORT["sequence"], LONG["sequence"]]


def test_kit_has_every_profile(tmp_path: Path) -> None:
    asked = ModelSpec(str(CHECKPOINT), "trt", tmp_path / "kit", profiles=(SHORT, LONG), kit=True, max_global=4)
    made = export(asked)
    assert made.report is not None
    lines = (made.bundle.folder / "trtexec.args").read_text().splitlines()
    names = [spec.name for spec in made.bundle.signature.inputs]
    assert lines[:2] == ["--profile=0", "--minShapes=" + ",".join(f"{name}:1x1" for name in names)]
    assert lines[4:] == [
        "--profile=1",
        "--minShapes=" + ",".join(f"{name}:1x100" for name in names),
        "--optShapes=" + ",".join(f"{name}:1x128" for name in names),
        "--maxShapes=" + ",".join(f"{name}:1x200" for name in names),
    ]
    readme = (made.bundle.folder / "README.md").read_text()
    assert "- batch 1:2:3, sequence 1:16:32\n- batch 1:1:1, sequence 100:128:200\n" in readme


def test_help_tells_of_profiles() -> None:
    assert "--profile" in CliRunner().invoke(model, ["--help"]).output
