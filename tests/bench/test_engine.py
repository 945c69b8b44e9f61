"""`lat-export bench` of a bundle with an engine. TensorRT and the GPU's driver are played: nothing here is a figure.

What is shown: which calls come in which order, what is refused and in whose words, and where each number goes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN, ROOT

from lat_export.bench.given import Given, given
from lat_export.bench.measure import choose
from lat_export.bench.subjects import pytorch_gpu
from lat_export.bench.subjects.pytorch import OpenedModel, load_model
from lat_export.bench.sweep import Point, point_inputs
from lat_export.environment import gpu_count
from lat_export.errors import InputError, MissingError
from lat_export.native.cuda_driver import CudaDriver
from lat_export.pipeline import export
from lat_export.profiles import parse_profile
from lat_export.targets import TARGETS
from lat_export.types import ModelSpec, Signature

PLAYED = ROOT / "tests" / "tensorrt_api" / "played"
HOME = GOLDEN / "longformer" / "text-classification"
VERSION, RTX_VERSION = "11.4.0.106", "1.7.1.116"
PARTS = {"host to device", "device to host", "whole request", "back to back"}
no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
Run = Callable[..., "Ran"]


class Ran:
    """What a bench printed and wrote, and the calls of each process that used the GPU, in order."""

    def __init__(self, done: subprocess.CompletedProcess[str], folder: Path) -> None:
        self.done = done
        file = folder / "bench.json"
        self.json = json.loads(file.read_text()) if file.is_file() else None
        self.calls = [path.read_text().splitlines() for path in sorted(folder.glob("calls.*"))]

    def rows(self, point: int = 0) -> dict[str, dict[str, Any]]:
        assert self.json is not None, self.done.stderr
        return {row["subject"]: row for row in self.json["points"][point]["rows"]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two profiles, built by the played TensorRT."""
    if TARGETS["trt"].missing() is None:
        pytest.skip("TensorRT itself is installed here")
    profiles = tuple(parse_profile(text) for text in ("batch=1:1:2,seq=1:8:16", "batch=1:1:2,seq=17:32:64"))
    out = tmp_path_factory.mktemp("engine") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLAYED)
        patch.setenv("PYTHONPATH", str(PLAYED), prepend=":")
        patch.setenv("PLAYED_GPU", "1")
        patch.setenv("LAT_EXPORT_PLUGINS", "/nowhere")
        export(ModelSpec(str(HOME / "checkpoint"), "trt", out, profiles=profiles, validate=False))
    return out


@pytest.fixture
def run(bundle: Path, played_driver: Path, tmp_path: Path) -> Run:
    """`run("--tokens", "8", PLAYED_CAPTURE="...")`: on a machine with a GPU and TensorRT, both played."""

    def bench(*arguments: str, folder: Path = bundle, **environment: str) -> Ran:
        played = {
            "LD_LIBRARY_PATH": str(played_driver.parent),
            "PYTHONPATH": f"{PLAYED}:{os.environ.get('PYTHONPATH', '')}",
            "PLAYED_GPU": "1",
            "PLAYED_CUDA_LOG": str(tmp_path / "calls"),
            "LAT_EXPORT_PLUGINS": "/nowhere",
        }
        command = [sys.executable, "-m", "lat_export", "bench", str(folder), *arguments]
        command += ["--json", str(tmp_path / "bench.json"), "--threads", "1"]
        settings = {**os.environ, **played, **environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings, cwd=tmp_path)
        return Ran(done, tmp_path)

    return bench


BOTH = ("--subject", "engine", "--subject", "engine-graph")


def test_an_engine_is_measured_with_and_without_a_graph(run: Run) -> None:
    ran = run(*BOTH, "--tokens", "8", "--repeat", "3")
    assert ran.done.returncode == 0, ran.done.stderr
    for row in ran.rows().values():
        assert row["error"] is None
        assert row["seconds"] == [pytest.approx(250e-6)] * 3  # the played engine's, and nothing of the copies
        assert set(row["parts"]) == PARTS
        assert all(len(values) == 3 for values in row["parts"].values())
        medians = {name: values[1] for name, values in row["parts"].items()}
        bytes_in, bytes_out = 3 * 8 * 8, 3 * 4
        assert medians["host to device"] == pytest.approx((3 * 7 + bytes_in / 1024) * 1e-6, rel=1e-3)
        assert medians["device to host"] == pytest.approx((7 + bytes_out / 1024) * 1e-6, rel=1e-3)
        whole = row["seconds"][0] + medians["host to device"] + medians["device to host"]
        assert medians["back to back"] == pytest.approx(whole, rel=1e-3)
        assert row["device_bytes"] == {"weights": 0, "context": 0, "activations by the engine": 4096}
        assert row["over_floor"] is None
        assert row["tokens_per_s"] == pytest.approx(8 / 250e-6)
    assert ran.json["points"][0]["floor"] is None  # of the CPU, on which nothing ran
    assert "requests/s)" in ran.done.stdout
    assert "engine: without copies; host to device 21.2 us" in ran.done.stdout


def of(calls: list[str], *words: str) -> list[str]:
    return [call for call in calls if call.startswith(words)]


def test_calls_come_in_order(run: Run) -> None:
    ran = run(*BOTH, "--tokens", "32", "--repeat", "3")
    plain, graph = sorted(ran.calls, key=lambda calls: "begin capture" in calls)
    for calls in (plain, graph):
        names = ("input_ids", "attention_mask", "global_attention_mask")
        setup = [call for call in calls[: calls.index("execute")] if not call.startswith("allocate")]
        # The second profile, and all shapes, before the memory of the outputs, whose sizes hang on them.
        assert setup == [
            "context",
            "profile 1",
            "synchronise",
            *(line for name in names for line in (f"shape {name} [1, 32]", f"address {name}")),
            "infer shapes",
            "address logits",
            *["copy_in 256"] * 3,
        ]
    assert "begin capture" not in plain
    begin, end = graph.index("begin capture"), graph.index("end capture")
    assert graph[begin - 2 : end + 1] == [
        "execute",
        "synchronise",
        "begin capture",
        "execute in capture",
        "end capture",
    ]
    assert not of(graph[end:], "execute", "allocate", "shape", "begin")
    # A request between its events: copies, one run, copies; waited for before the clock is read.
    for calls, work in ((plain, "execute"), (graph, "launch")):
        first = calls.index("record 0")
        assert calls[first : first + 13] == [
            "record 0", *["copy_in 256"] * 3, "record 1", work, "record 2", "copy_out 12", "record 3", "synchronise",
            "elapsed 0 1", "elapsed 2 3", "elapsed 1 2",
        ]  # fmt: skip
        # As many requests alone as back to back, in each of the rounds, and the one that counted them.
        alone, row = len(of(calls, "elapsed 1 2")), calls.count(work) - calls[:first].count(work)
        assert (alone - 1) % 3 == 0
        assert row == 2 * (alone - 1) + 1
        assert len(of(calls, "elapsed 0 3")) == 3


@pytest.mark.parametrize(("tokens", "profile"), [("16", "profile 0"), ("17", "profile 1")])
def test_the_profile_is_the_first_that_holds_the_sizes(tokens: str, profile: str, run: Run) -> None:
    ran = run("--subject", "engine", "--tokens", tokens, "--repeat", "1")
    assert of(ran.calls[0], "profile") == [profile]
    assert f"engine: {profile} of 2" in ran.done.stdout


def test_sizes_that_no_profile_holds_are_refused_before_the_gpu_is_touched(run: Run) -> None:
    ran = run("--subject", "engine", "--tokens", "8,65", "--repeat", "1")
    assert ran.done.returncode == 0, ran.done.stderr
    assert ran.rows(0)["engine"]["error"] is None
    assert "no profile of the engine holds these sizes" in ran.rows(1)["engine"]["error"]
    assert "'sequence': 65" in ran.rows(1)["engine"]["error"]
    assert len(ran.calls) == 1  # the other process made no call


def test_a_failed_capture_is_told_in_the_engines_words(run: Run) -> None:
    ran = run(*BOTH, "--tokens", "8", "--repeat", "1", PLAYED_CAPTURE="this layer synchronises the stream")
    rows = ran.rows()
    assert rows["engine"]["error"] is None
    error = rows["engine-graph"]["error"]
    assert error.startswith("the engine cannot be captured into a CUDA graph")
    assert "this layer synchronises the stream" in error


def test_a_gpu_without_memory_is_told_in_the_drivers_words(run: Run) -> None:
    ran = run("--subject", "engine", "--tokens", "8", "--repeat", "1", PLAYED_CUDA_MEMORY="100")
    assert ran.done.returncode == 1
    assert ran.rows()["engine"]["error"] == ("CUDA: cuMemAlloc_v2 failed (CUDA_ERROR_OUT_OF_MEMORY: out of memory)")


def test_an_engine_of_another_version_is_refused_in_the_librarys_words(run: Run) -> None:
    ran = run("--subject", "engine", "--tokens", "8", "--repeat", "1", PLAYED_TENSORRT="10.8.0.43")
    assert ran.done.returncode == 1
    assert "played: this engine does not deserialise" in ran.rows()["engine"]["error"]


@no_gpu
def test_without_a_gpu_or_tensorrt_a_named_engine_is_exit_code_3(bundle: Path, tmp_path: Path, run: Run) -> None:
    command = [sys.executable, "-m", "lat_export", "bench", str(bundle), "--subject", "engine", "--tokens", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 3
    assert "engine needs a GPU and TensorRT" in done.stderr
    assert "no GPU: no NVIDIA GPU or driver on this machine; no TensorRT: pip install tensorrt" in done.stderr
    without_library = run("--subject", "engine", "--tokens", "8", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    assert without_library.done.returncode == 3
    assert "got: no TensorRT: pip install tensorrt" in without_library.done.stderr
    without_gpu = run("--subject", "engine-graph", "--tokens", "8", PLAYED_CUDA_NONE="1")
    assert without_gpu.done.returncode == 3
    assert "got: no GPU: no NVIDIA GPU or driver on this machine\n" in without_gpu.done.stderr


@contextmanager
def found_in(bundle: Path) -> Iterator[Given]:
    with given(str(bundle), checkpoint=None, task=None, peers=(), allow_pickle=False, tell=print) as found:
        yield found


@no_gpu
def test_where_none_is_named_the_rest_is_measured(bundle: Path) -> None:
    with found_in(bundle) as found:
        chosen, left_out = choose(found, ())
        assert {"engine", "engine-graph", "pytorch-gpu", "pytorch-gpu-compile"} <= set(left_out)
        assert "onnx" in [subject.name for subject in chosen]
        with pytest.raises(MissingError, match="pytorch-gpu needs a GPU"):
            choose(found, ("pytorch-gpu",))


@pytest.mark.parametrize("changed", [{"target": "ort"}, {"kit": True}], ids=["ort", "kit"])
def test_a_bundle_without_an_engine_has_none_to_measure(changed: dict[str, Any], bundle: Path) -> None:
    with found_in(bundle) as found:
        other = replace(found, bundle=replace(found.bundle, manifest={**found.bundle.manifest, **changed}))
    with pytest.raises(InputError, match="unknown subject 'engine'") as error:
        choose(other, ("engine",))
    assert error.value.hint == "engine is of bundles with an engine (--to trt, --to trt-rtx)"
    assert not [name for name in choose(other, ())[1] if name in ("engine", "engine-graph", "pytorch-gpu")]


def test_an_engine_without_weights_is_not_measured(bundle: Path) -> None:
    with found_in(bundle) as found:
        manifest = json.loads(json.dumps(found.bundle.manifest))
    manifest["plan"]["options"] = {"strip_weights": True}
    with pytest.raises(MissingError, match="the engine has no weights"):
        choose(replace(found, bundle=replace(found.bundle, manifest=manifest)), ("engine",))


def test_pytorch_on_a_stream_computes_what_it_does_on_the_cpu(
    played_driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same steps on the CPU, whose PyTorch has no streams; their events are on the played driver's clock."""
    signature = Signature.from_json(json.loads((HOME / "golden.json").read_text())["signature"])
    inputs = point_inputs(signature, Point(2, 32, globals=1))
    about = {"checkpoint": str(HOME / "checkpoint"), "allow_pickle": False, "options": {}, "tokens": 32}
    model, note = load_model({**about, "signature": signature.to_json()}, 1)
    monkeypatch.setattr(pytorch_gpu, "CudaDriver", lambda: CudaDriver(str(played_driver)))
    opened = pytorch_gpu.OpenedModelOnGpu(model, signature, inputs, note, device="cpu")
    on_cpu = OpenedModel(model, signature, inputs, note).run()
    assert {name: array.tolist() for name, array in opened.run().items()} == {
        name: array.tolist() for name, array in on_cpu.items()
    }
    timed = opened.timed()
    assert set(timed.parts) == PARTS
    assert timed.parts["whole request"] > 0
    assert opened.device_bytes() == {
        "weights": sum(one.nbytes for one in model.state_dict().values()),
        "most allocated": 0,
    }


OF_RTX = """
import sys
from pathlib import Path
import numpy as np
from lat_export.native.cuda_driver import CudaDriver
from lat_export.targets.tensorrt_stream import EngineOnStream
import json
plan = json.loads(Path(sys.argv[1]).read_bytes())
Path(sys.argv[2]).write_text(json.dumps({**plan, "played": "%s"}))
engine = EngineOnStream(Path(sys.argv[2]), "tensorrt", "TensorRT-RTX", (), CudaDriver())
engine.prepare({name: np.ones((1, 8), np.int64) for name in plan["io"]}, 0)
engine.execute()
engine.copy_out()
print(engine.outputs["logits"].tolist())
"""


def test_kernels_of_rtx_are_compiled_before_they_are_timed(bundle: Path, played_driver: Path, tmp_path: Path) -> None:
    """As its bindings have it, and its documentation: EAGER. The outputs are what the engine left in its memory."""
    command = [sys.executable, "-c", OF_RTX % RTX_VERSION, bundle / "model.trt.engine", tmp_path / "rtx.engine"]
    environment = {
        "LD_LIBRARY_PATH": str(played_driver.parent),
        "PYTHONPATH": f"{PLAYED}:{ROOT / 'exporter'}",
        "PLAYED_GPU": "1",
        "PLAYED_TENSORRT": RTX_VERSION,
        "PLAYED_CUDA_LOG": str(tmp_path / "calls"),
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[1.5, 1.5, 1.5]]\n"
    (calls,) = tmp_path.glob("calls.*")
    assert calls.read_text().splitlines()[0] == "context EAGER"
