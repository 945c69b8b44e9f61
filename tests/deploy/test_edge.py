"""`--format edge`: a folder that needs no Python, its answers and its refusals."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN
from deploy.edge_folders import OTHER, answers, changed, edge, lat_edge, rewrite
from deploy.repositories import changed_bundle
from safetensors.numpy import load_file, save_file

from lat_export import native
from lat_export.answers import ANSWERS
from lat_export.deploy import is_deployment
from lat_export.errors import InputError, MissingError
from lat_export.inference import Request, answer, front_of, open_model
from lat_export.pipeline import Exported, export
from lat_export.stages.bundle import read_bundle
from lat_export.types import ModelSpec

TEXTS = (
    "The keeper of the tower kept the light through the storm, until the évening came: 3 ships, 👍 and more.",
    "a",
    "  It's   spaced\n\nout ",
)
FAMILIES = {"longformer": "text-classification", "yoso": "token-classification", "nystromformer": "question-answering"}
Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def bundle(exported: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """`bundle(task, family)`: with golden tensors where they are compared; the others are exported in half the time."""
    made: dict[tuple[str, str], Path] = {}
    place = tmp_path_factory.mktemp("bundles")

    def get(task: str, family: str = "longformer") -> Path:
        if FAMILIES[family] == task:
            return exported(task, family=family).bundle.folder
        if (task, family) not in made:
            made[task, family] = place / f"{family}-{task}"
            checkpoint = GOLDEN / family / task / "checkpoint"
            export(ModelSpec(str(checkpoint), "onnx", made[task, family], validate=False))
        return made[task, family]

    return get


@pytest.fixture(scope="module")
def folder(bundle: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """`folder(task, family)`: the deployment of a golden checkpoint."""
    made: dict[tuple[str, str], Path] = {}
    place = tmp_path_factory.mktemp("edge")

    def get(task: str, family: str = "longformer") -> Path:
        if (task, family) not in made:
            made[task, family] = edge(bundle(task, family), place / f"{family}-{task}")
        return made[task, family]

    return get


@pytest.fixture
def classifier(folder: Folder) -> Path:
    return folder("text-classification")


@pytest.mark.parametrize(("family", "task"), FAMILIES.items())
@pytest.mark.parametrize("forms", ["native", "bodies"])
def test_it_computes_what_pytorch_computes(family: str, task: str, forms: str, folder: Folder) -> None:
    if forms == "native" and native.ort_library() is None:
        pytest.skip(f"no native ops for onnxruntime: {native.describe()}")
    done = lat_edge(folder(task, family), "--check", *(["--bodies"] if forms == "bodies" else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("passed: ")
    assert ("native ops" if forms == "native" else "function bodies") in done.stdout.splitlines()[0]


def test_a_wrong_output_fails(classifier: Path, tmp_path: Path) -> None:
    copy = changed(classifier, tmp_path / "copy")
    tensors = load_file(copy / "golden.safetensors")
    name = next(name for name in tensors if ".outputs." in name)
    (copy / "golden.safetensors").unlink()
    save_file({**tensors, name: tensors[name] * np.float32(1.0001)}, copy / "golden.safetensors")
    done = lat_edge(copy, "--check")
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def requests_of(task: str) -> list[Request]:
    if task == "question-answering":
        return [Request(text, "What was kept, and 'twas by whom?") for text in TEXTS]
    if task == "multiple-choice":
        return [Request(text, choices=("It rained.", " The end, at last ☃", "")) for text in TEXTS]
    if task == "fill-mask":
        return [Request(f"{text}<mask> was <mask>", top_k=3) for text in TEXTS]
    return [Request(text) for text in TEXTS]


def as_line(request: Request) -> dict[str, Any]:
    line: dict[str, Any] = {"text": request.text, "top_k": request.top_k}
    line |= {} if request.question is None else {"question": request.question}
    return line | ({"choices": list(request.choices)} if request.choices else {})


def assert_same(found: Any, wanted: Any) -> None:
    """Numbers to the accuracy of float32 softmax, all else exactly."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=2e-4, abs=1e-5)
    else:
        assert found == wanted


ANSWERED = [(task, "longformer") for task in ANSWERS]
ANSWERED += [(task, family) for family, task in FAMILIES.items() if family != "longformer"]


@pytest.mark.parametrize(("task", "family"), ANSWERED)
def test_answers_are_those_of_lat_export_run(task: str, family: str, folder: Folder, bundle: Folder) -> None:
    asked = [request for request in requests_of(task) if family == "longformer" or len(request.text) < 50]
    found = answers(folder(task, family), [as_line(request) for request in asked])
    assert_same(found, [answer(bundle(task, family), request) for request in asked])


def test_labels_with_further_dashes_are_those_of_lat_export_run(folder: Folder, bundle: Folder, tmp_path: Path) -> None:
    names = ["B-geo-loc", "I-geo-loc", "I-fac-loc", "geo-nam", "per-nam"]
    opened = read_bundle(bundle("token-classification"))
    front = replace(front_of(opened), config={"id2label": {str(index): name for index, name in enumerate(names)}})
    copy = changed(folder("token-classification"), tmp_path / "copy", labels=names)
    (found,) = answers(copy, [{"text": TEXTS[0]}])
    with open_model(opened) as run:
        wanted = front.answer(Request(TEXTS[0]), run)
    assert {row["label"] for row in wanted["entities"]} == {"geo-loc", "fac-loc", "nam"}
    assert_same(found, wanted)


def test_ids_are_answered_without_words(folder: Folder) -> None:
    place = folder("question-answering")
    text, question = TEXTS[0], "What was kept?"
    (tokens,) = answers(place, [{"text": question, "pair": text}], "--encode")
    by_text, by_ids = answers(place, [{"text": text, "question": question}, {"ids": tokens["ids"]}])
    assert [found["score"] for found in by_ids["answers"]] == [found["score"] for found in by_text["answers"]]
    best = by_ids["answers"][0]
    start, end = tokens["offsets"][best["first_token"]][0], tokens["offsets"][best["end_token"] - 1][1]
    assert text[start:end].strip() == by_text["answers"][0]["answer"]


def test_global_tokens_of_a_request_are_taken(classifier: Path) -> None:
    ids = [0, *range(10, 60), 2]
    marks = [1, *[0] * 51]
    requests = [{"ids": ids}, *({"ids": ids, "global_attention_mask": row} for row in (marks, [0] * 52))]
    default, given, none = answers(classifier, requests)
    assert default == given
    assert default != none


def test_a_bad_line_does_not_stop_the_others(classifier: Path) -> None:
    requests = [
        "{}",
        '{"text": "a"}',
        "no json",
        '{"ids": [99999]}',
        '{"text": "' + "ab " * 9999 + '"}',
        '{"text": "a"}',
    ]
    done = lat_edge(classifier, "--lines", lines=requests)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert ["error" in one for one in told] == [True, False, True, True, True, False]
    assert told[1] == told[5]
    assert told[3]["error"]["got"] == "99999 to 99999"
    assert told[3]["error"]["expected"] == "0 to 383"
    assert told[4]["error"]["hint"] == "truncate or split the document"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to do"),
        (["--text"], "without a value"),
        (["--text", "a", "--check"], "either --text or --check"),
        (["--runs", "0", "--bench"], "from 1 on"),
        (["--question", "a", "--facts"], "go with --text"),
        (["--colour", "a"], "unknown argument --colour"),
        (["--request", "{}"], "needs text or ids"),
        (["--folder", "nowhere", "--facts"], "nowhere/edge.json"),
        (["--bench", "--tokens", "9999"], "N <= 256"),
    ],
)
def test_misuse_is_told(arguments: list[str], said: str, classifier: Path) -> None:
    done = lat_edge(classifier, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_what_is_missing_or_damaged_is_named(classifier: Path, tmp_path: Path) -> None:
    def told(code: int, **facts: Any) -> str:
        copy = changed(classifier, tmp_path / str(len(list(tmp_path.iterdir()))), **facts)
        done = lat_edge(copy, "--facts")
        assert done.returncode == code, done.stderr
        return done.stderr

    assert OTHER in told(3, platform=OTHER)
    assert "cannot open shared object file" in told(3, onnxruntime="lib/absent.so")
    assert "does not take the native ops" in told(3, native_ops="lib/absent.so")
    assert "not onnxruntime's" in told(3, onnxruntime="lib/liblat_runner.so")
    assert "cannot load the model" in told(2, model="absent.onnx")
    assert "schema 99, expected 1" in told(2, schema=99)
    assert "edge.json is damaged" in told(2, inputs=None)
    assert "cannot be read" in told(
        2, tokenizer={**json.loads((classifier / "edge.json").read_text())["tokenizer"], "file": "x"}
    )
    copy = changed(classifier, tmp_path / "cut")
    rewrite(copy / "tokenizer.safetensors", (classifier / "tokenizer.safetensors").read_bytes()[:-1])
    assert "truncated" in lat_edge(copy, "--facts").stderr


def test_bench_measures(classifier: Path) -> None:
    found = json.loads(lat_edge(classifier, "--bench", "--runs", "100", "--tokens", "32").stdout)
    assert len(found["each_ms"]) == found["runs"] == 100
    each = sorted(found["each_ms"])
    assert (found["p50_ms"], found["p99_ms"]) == (each[49], each[98])
    assert found["peak_resident_bytes"] >= found["resident_after_create_bytes"] > 10_000_000
    assert found["create_ms"] > found["p50_ms"] > 0


CALLER = r"""
#include <stdio.h>
#include "lat_runner.h"
int main(int count, char** words) {
  lat_error error;
  lat_runner* runner = NULL;
  char* answer = NULL;
  if (count != 2) return 9;
  if (lat_runner_create(words[1], NULL, &runner, &error) != LAT_OK) { puts(error.what); return error.status; }
  if (lat_runner_answer(runner, "{\"text\": \"A document.\"}", &answer, &error) == LAT_OK) puts(answer);
  lat_string_free(answer);
  lat_runner_destroy(runner);
  return 0;
}
"""


def test_the_header_is_plain_c_and_the_library_links(classifier: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs cc")
    (tmp_path / "caller.c").write_text(CALLER)
    strict = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
    linked = [
        f"-I{classifier / 'include'}",
        f"-L{classifier / 'lib'}",
        "-llat_runner",
        f"-Wl,-rpath,{classifier / 'lib'}",
    ]
    subprocess.run([compiler, *strict, "caller.c", *linked, "-o", "caller"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "caller", classifier], capture_output=True, text=True, check=True)
    assert_same(json.loads(done.stdout), answers(classifier, [{"text": "A document."}])[0])


def test_only_the_abi_is_exported(classifier: Path) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    command = [nm, "-D", "--defined-only", classifier / "lib" / "liblat_runner.so"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    header = (classifier / "include" / "lat_runner.h").read_text()
    assert len(names) == 13
    assert all(f" {name}(" in header or f" *{name}(" in header for name in names)


def test_its_sources_are_all_that_a_build_needs(classifier: Path, tmp_path: Path) -> None:
    """Configured with the network forbidden, and the file that includes onnxruntime's header compiled."""
    offline = ["-DLAT_FETCH_HEADERS=OFF", "-DCMAKE_CXX_FLAGS=-fsyntax-only"]
    configure = [
        "cmake",
        "-S",
        classifier / "sources",
        "-B",
        tmp_path,
        "-G",
        "Ninja",
        "-DLAT_RUNNER_TESTS=OFF",
        *offline,
    ]
    subprocess.run([*configure, "-DCMAKE_CXX_COMPILER_WORKS=1"], check=True, capture_output=True)
    subprocess.run(
        ["ninja", "-C", tmp_path, "CMakeFiles/lat_runner.dir/session.cpp.o"], check=True, capture_output=True
    )


def test_the_sources_compile_for_aarch64(classifier: Path) -> None:
    """The whole of it is built and run in an emulator by hand: docs/edge.md."""
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("needs g++-aarch64-linux-gnu")
    place = classifier / "sources"
    folders = [f"-I{place / name}" for name in ("", "lat_run", "onnxruntime")]
    sources = [place / name for name in ("session.cpp", "check_inputs.cpp")]
    subprocess.run([compiler, "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", *folders, *sources], check=True)


def test_the_folder_is_listed_whole(classifier: Path) -> None:
    assert is_deployment(classifier)
    manifest = json.loads((classifier / "deployment.json").read_text())
    assert manifest["platform"] == platform.machine()
    assert manifest["files"]["lat_edge"]["bytes"] == (classifier / "lat_edge").stat().st_size
    for name in ("licenses/onnxruntime/LICENSE", "sources/onnxruntime/onnxruntime_c_api.h", "sources/lat_run/json.cpp"):
        assert name in manifest["files"]


def test_what_cannot_be_served_is_refused(exported: Callable[..., Exported], tmp_path: Path) -> None:
    bundle = exported("text-classification").bundle.folder
    half = changed_bundle(bundle, tmp_path / "half", {"precision": "bf16"})

    def refused(source: Path = bundle, error: type = InputError, **options: Any) -> str:
        with pytest.raises(error) as caught:
            edge(source, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert "take no bfloat16" in refused(half)
    assert "--backend" in refused(backend="python")
    assert "--to trt --kit" in refused(device="gpu")
    assert "aarch64" in refused(platform="riscv64")
    assert "no library of onnxruntime" in refused(onnxruntime=tmp_path)


def test_a_bundle_that_was_not_validated_has_nothing_to_compare(
    exported: Callable[..., Exported], tmp_path: Path
) -> None:
    plain = changed_bundle(exported("text-classification").bundle.folder, tmp_path / "plain", {"validated": None})
    place = edge(plain, tmp_path / "out", text=False)
    assert "kit.json" in lat_edge(place, "--check").stderr
    assert lat_edge(place, "--text", "a").returncode == 2
    assert "--no-text" in lat_edge(place, "--text", "a").stderr
    assert "labels" in json.loads(lat_edge(place, "--request", '{"ids": [0, 9, 2]}').stdout)


def test_no_native_ops_is_said(
    exported: Callable[..., Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "none"))
    place = edge(exported("text-classification").bundle.folder, tmp_path / "out")
    assert "runs as its ONNX function body" in json.loads((place / "deployment.json").read_text())["notes"][1]
    assert json.loads(lat_edge(place, "--facts").stdout)["native_ops"] == 0


def test_no_compiler_is_said(
    exported: Callable[..., Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exported("text-classification").bundle.folder
    monkeypatch.setenv("PATH", str(tmp_path))
    from lat_export.deploy import Serving, deploy

    with pytest.raises(MissingError, match="the edge runner cannot be built"):
        deploy(bundle, "edge", Serving(tmp_path / "out", platform=platform.machine()))
