"""Repositories on a real server, over HTTP and gRPC: see triton_environment.py for where it comes from."""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy import triton_server
from deploy.triton_client import PROTOCOLS, Arrays, Batches, Client, open_client
from deploy.triton_server import Server, serving

from lat_export.deploy import Serving, deploy
from lat_export.inference import Request, answer
from lat_export.pipeline import Exported
from lat_export.targets import BuildPlan, Subject
from lat_export.types import Signature
from lat_export.validation.check import Judge, check_subject
from lat_export.validation.golden import Golden
from lat_export.validation.report import PASSED

Export = Callable[..., Exported]
TEXT = "The keeper of the northern tower kept the light through the storm."
REQUESTS = {
    "longformer": ("question-answering", Request(TEXT, question="Who kept the light?", top_k=3)),
    "nystromformer": ("token-classification", Request(TEXT)),
    "yoso": ("multiple-choice", Request(TEXT, choices=("It was dry.", "It was dark until the evening."))),
}
NO_SERVER = triton_server.why_not()
pytestmark = pytest.mark.skipif(NO_SERVER is not None, reason=str(NO_SERVER))
# Whether requests meet in the queue is chance, on a machine whose processors are all busy more than elsewhere.
TURNS = 10


def client_of(server: Server, protocol: str) -> Client:
    pytest.importorskip(f"tritonclient.{protocol}", reason="pip install 'lat-export[triton]' has clients")
    return open_client(server, protocol)


@pytest.fixture(scope="module")
def repositories(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a model of each family."""
    root, made = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("made")
    for family, (task, _) in REQUESTS.items():
        serving_as = Serving(made / family, name=family, backend="python", queue_delay_us=20_000)
        done = deploy(exported(task, family=family).bundle.folder, "triton", serving_as)
        for model in done.manifest["models"].values():
            (done.folder / model).rename(root / model)
    return root


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def server(repositories: Path, scratch: Path) -> Iterator[Server]:
    with serving(repositories, scratch, "--model-control-mode=explicit", "--load-model=*") as opened:
        yield opened


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", REQUESTS)
def test_every_golden_case_passes(family: str, protocol: str, server: Server, exported: Export) -> None:
    """By the rules and the tolerances of `lat-export validate`."""
    bundle = exported(REQUESTS[family][0], family=family).bundle
    client = client_of(server, protocol)
    subject = Subject("Triton", lambda: nullcontext(lambda inputs: client.infer(family, inputs)), BuildPlan({}))
    judge = Judge(ops=tuple(bundle.manifest["lat_nodes"]))
    report = check_subject(subject, Golden(bundle.folder), bundle.signature, judge)
    assert report.verdict == PASSED, [row for row in report.rows if row.verdict != PASSED]
    assert len(report.rows) >= 8


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", REQUESTS)
def test_text_is_answered_as_by_run(family: str, protocol: str, server: Server, exported: Export) -> None:
    task, request = REQUESTS[family]
    wanted = answer(exported(task, family=family).bundle.folder, request)
    assert_close(client_of(server, protocol).answer(family, request), wanted)


def assert_close(found: Any, wanted: Any) -> None:
    """Equal, numbers to the tolerance of a score in float32."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert_close(found[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-5)
    else:
        assert found == wanted


def tokens(signature: Signature, length: int, seed: int) -> Arrays:
    """One row of (1, `length`)."""
    draw = np.random.default_rng(seed)
    made = {"input_ids": draw.integers(5, 300, (1, length)), "attention_mask": np.ones((1, length), np.int64)}
    made["global_attention_mask"] = (draw.random((1, length)) < 0.1).astype(np.int64)
    return {spec.name: made[spec.name] for spec in signature.inputs}


def test_eight_clients_with_mixed_lengths_are_joined_and_get_their_own_answers(
    server: Server, exported: Export
) -> None:
    signature = exported("question-answering").bundle.signature
    client = client_of(server, "grpc")
    requests = [tokens(signature, (16, 64, 128)[seed % 3], seed) for seed in range(48)]
    alone = [client.infer("longformer", inputs) for inputs in requests]
    before = client.batches("longformer")
    for turn in range(1, TURNS + 1):
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda inputs: client.infer("longformer", inputs), requests))
        for one, other in zip(alone, together, strict=True):
            assert_same(other, one)
        after = counted(client, "longformer", before.rows + turn * len(requests))
        if after.runs - before.runs < after.rows - before.rows:
            break
    else:
        pytest.fail(f"no two of {TURNS * len(requests)} requests shared a batch")
    assert max(rows for rows, runs in after.of_rows.items() if runs > before.of_rows.get(rows, 0)) > 1


def counted(client: Client, model: str, rows: int) -> Batches:
    """The server answers first and counts then, so the last of the requests before these may count among them."""
    until = time.monotonic() + 10
    while (found := client.batches(model)).rows < rows and time.monotonic() < until:
        time.sleep(0.02)
    assert found.rows >= rows
    return found


def assert_same(found: Arrays, wanted: Arrays) -> None:
    """Of one model, whatever else was in its batch."""
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].shape == wanted[name].shape
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_a_model_whose_rows_are_coupled_is_not_joined(server: Server, exported: Export) -> None:
    """The rows of one request may well be many."""
    signature = exported("token-classification", family="nystromformer").bundle.signature
    client = client_of(server, "grpc")
    requests = [tokens(signature, 64, seed) for seed in range(24)]
    alone = [client.infer("nystromformer", inputs) for inputs in requests]
    before = client.batches("nystromformer")
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda inputs: client.infer("nystromformer", inputs), requests))
    after = counted(client, "nystromformer", before.rows + len(requests))
    assert after.runs - before.runs == after.rows - before.rows
    for one, other in zip(alone, together, strict=True):
        assert_same(other, one)


def text_of(data: bytes) -> Arrays:
    return {"text": np.array([data], np.object_), "question": np.array([b"Who?"], np.object_)}


def malformed(signature: Signature) -> dict[str, tuple[str, Arrays, str]]:
    """By what is wrong: model, inputs, and what the refusal says."""
    good = tokens(signature, 16, 0)
    ids = good["input_ids"]
    return {
        "dtype": ("longformer", {**good, "input_ids": ids.astype(np.float32)}, "data-?type|datatype|INT64"),
        "rank": ("longformer", {**good, "input_ids": ids[..., None]}, "shape"),
        "sizes that differ": ("longformer", {**good, "attention_mask": good["attention_mask"][:, :8]}, "differs"),
        "an input less": ("longformer", {"input_ids": ids}, "inputs|missing"),
        "no tokens": ("longformer", {name: array[:, :0] for name, array in good.items()}, "differs"),
        "too long": ("longformer", tokens(signature, 257, 0), "longer than"),
        "no such token": ("longformer", {**good, "input_ids": ids + 10_000}, "no meaning"),
        "no UTF-8": ("longformer_text", text_of(b"\xff\xfe\x00"), "UTF-8"),
        "a text too long": ("longformer_text", text_of(b"keeper " * 2000), "longer than"),
        "a question less": ("longformer_text", {"text": np.array([b"x"], np.object_)}, "question"),
        "two questions": ("longformer_text", {**text_of(b"x"), "question": np.array([b"?"] * 2, np.object_)}, "shape"),
        "no top": ("longformer_text", {**text_of(b"x"), "top_k": np.array([0], np.int32)}, "top_k"),
    }


BODIES = {
    "no JSON": b"\x00\xff garbage",
    "nothing": b"",
    "no inputs": b"{}",
    "two texts": b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}',
    "a number for a text": b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [3]}]}',
    "half a surrogate": b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["\\ud800"]}]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_garbage_over_http_is_refused(body: bytes, server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{server.http}/v2/models/nystromformer_text/infer", body, timeout=60)
    assert caught.value.code in (400, 500)  # 500 is for what its parser of JSON dislikes
    assert json.loads(caught.value.read())["error"]
    urllib.request.urlopen(f"http://{server.http}/v2/models/nystromformer_text/ready", timeout=60)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_malformed_requests_are_refused_while_others_are_served(
    protocol: str, server: Server, exported: Export
) -> None:
    from tritonclient.utils import InferenceServerException

    signature = exported("question-answering").bundle.signature
    good, other = tokens(signature, 16, 1), client_of(server, "grpc")
    wanted, found, stop = other.infer("longformer", good), [], threading.Event()

    def others() -> None:
        while not stop.is_set():
            found.append(other.infer("longformer", good))

    thread = threading.Thread(target=others)
    thread.start()
    try:
        client = client_of(server, protocol)
        for what, (model, inputs, words) in malformed(signature).items():
            with pytest.raises(InferenceServerException, match=words) as caught:
                client.infer(model, inputs)
            assert "Traceback" not in str(caught.value), what
    finally:
        stop.set()
        thread.join()
    assert found
    for one in found:
        assert_same(one, wanted)


def test_a_reload_loses_no_request(server: Server, repositories: Path, exported: Export) -> None:
    """A new version of the tensors' model, while clients ask it and the model of text before it."""
    request = REQUESTS["longformer"][1]
    client = client_of(server, "grpc")
    wanted, stop = client.answer("longformer", request), threading.Event()
    arrays = tokens(exported("question-answering").bundle.signature, 16, 1)
    tensors = client.infer("longformer", arrays)

    def ask(one: Callable[[], Any]) -> list[Any]:
        found = []
        while not stop.is_set():
            found.append(one())
        return found

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(ask, lambda: client.answer("longformer", request)) for _ in range(2)]
        running_too = [pool.submit(ask, lambda: client.infer("longformer", arrays)) for _ in range(2)]
        try:
            shutil.copytree(repositories / "longformer" / "1", repositories / "longformer" / "2")
            load = f"http://{server.http}/v2/repository/models/longformer/load"
            urllib.request.urlopen(urllib.request.Request(load, method="POST"), timeout=60)
            assert client.opened.is_model_ready("longformer", "2")
            # The version that the policy no longer names goes when its last request is answered.
            until = time.monotonic() + 20
            while client.opened.is_model_ready("longformer", "1") and time.monotonic() < until:
                time.sleep(0.05)
            assert not client.opened.is_model_ready("longformer", "1")
        finally:
            stop.set()
        answers, outputs = ([one for each in several for one in each.result()] for several in (running, running_too))
    assert min(len(answers), len(outputs)) >= 2
    for answered in answers:
        assert_close(answered, wanted)
    for output in outputs:
        assert_same(output, tensors)


def test_a_killed_server_serves_again(server: Server, repositories: Path, scratch: Path, exported: Export) -> None:
    """The repository is only read, so nothing of the killed one stands in the way."""
    task, request = REQUESTS["nystromformer"]
    wanted = answer(exported(task, family="nystromformer").bundle.folder, request)
    options = ("--model-control-mode=explicit", "--load-model=nystromformer", "--load-model=nystromformer_text")
    with serving(repositories, scratch, *options) as other:
        assert_close(client_of(other, "http").answer("nystromformer", request), wanted)
        other.kill()
    with serving(repositories, scratch, *options) as again:
        assert_close(client_of(again, "http").answer("nystromformer", request), wanted)
