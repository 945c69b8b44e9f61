"""Kubernetes: a Triton repository, the Dockerfile of an image that holds it, and the manifests that run the image.

The manifests were checked against the schemas of Kubernetes' own API; no cluster has run them, and no container engine
has built the image.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lat_export.deploy.contract import Format, Serving, Written
from lat_export.deploy.docker_image import (
    BASE,
    DOCKERFILE,
    IGNORED,
    ServingImage,
    demand_image,
    dockerfile,
    dockerignore,
    python_packages,
)
from lat_export.deploy.host_needs import HostNeeds, host_needs
from lat_export.deploy.kubernetes_objects import Object, Workload, deployment, disruption_budget, service
from lat_export.deploy.kubernetes_readme import build_command, readme
from lat_export.deploy.kubernetes_scaling import adapter_values, autoscaler
from lat_export.deploy.pod_resources import USUAL_THREADS, PodResources, pod_resources
from lat_export.deploy.triton import FORMAT as TRITON
from lat_export.deploy.triton import VERSION, Tensors
from lat_export.digest import file_sha256
from lat_export.errors import InputError
from lat_export.stages.bundle import MANIFEST_FILE, Bundle

MODELS = "models"
SERVED_AT = "/models"
MANIFESTS = "kubernetes"
ADAPTER = "prometheus-adapter.yaml"
PLACE = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
# As Kubernetes calls what `uname -m` says.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LONGEST_NAME = 50
USUAL_REPLICAS = (2, 8)
# Of a model whose runs could not be timed here.
USUAL_QUEUE_US = 100_000
# Below, waiting is what a burst of a few requests makes, and no reason for another pod.
LEAST_QUEUE_US = 10_000


@dataclass(frozen=True)
class Cluster:
    """What a cluster runs.

    Attributes:
        image: the name that the serving image is pushed under, with a tag or a digest.
        base_image: of Triton, what that image is made from.
        replicas: pods at least and at most.
    """

    image: str
    base_image: str
    replicas: tuple[int, int]


class KubernetesFormat(Format):
    """`--format kubernetes`."""

    name = "kubernetes"
    title = "Kubernetes"
    takes = TRITON.takes | {"image", "base_image", "replicas"}

    def write(self, bundle: Bundle, folder: Path, serving: Serving) -> Written:
        cluster = _cluster(serving)
        models = folder / MODELS
        models.mkdir()
        asked = replace(serving, served_at=_served_at(serving), threads=serving.threads or USUAL_THREADS)
        tensors, triton = TRITON.lay_out(bundle, models, asked)
        with_text = "text" in triton.facts["models"]
        needs = host_needs(tensors, models / tensors.name / VERSION, folder)
        resources = pod_resources(tensors, needs, with_text=with_text)
        work = Workload(
            name=object_name(tensors.name),
            image=cluster.image,
            args=tuple(shlex.split(triton.start)),
            resources=resources,
            architecture=_architecture(),
            digest=file_sha256(bundle.folder / MANIFEST_FILE),
        )
        scaling = autoscaler(work, cluster.replicas, *_targets(tensors, needs, resources))
        _write_manifests(folder, work, scaling)
        image = _image(tensors, work, cluster, with_text=with_text)
        (folder / DOCKERFILE).write_text(dockerfile(image))
        (folder / IGNORED).write_text(dockerignore([MODELS]))
        notes = (*_notes(tensors, needs, resources, image), *triton.notes)
        start = (
            f"{build_command(work)} {serving.out} && docker push {work.image} && "
            f"kubectl apply --kustomize {serving.out / MANIFESTS}"
        )
        facts = {
            **triton.facts,
            "repository": MODELS,
            "image": work.image,
            "base_image": image.base,
            "object": work.name,
            "replicas": list(cluster.replicas),
            "resources": asdict(resources),
            "measured": needs.to_json(),
        }
        (folder / "README.md").write_text(readme(bundle, work, needs, notes, scaling))
        return Written(facts, notes, start)


def _cluster(serving: Serving) -> Cluster:
    if serving.image is None:
        raise InputError(
            "a cluster has to be told where its image is",
            got="no --image",
            expected="--image REGISTRY/NAME:TAG",
            hint="the name that the image will be pushed under: the Dockerfile comes with the manifests",
        )
    demand_image("--image", serving.image)
    if serving.base_image is not None:
        demand_image("--base-image", serving.base_image)
    least, most = serving.replicas or USUAL_REPLICAS
    if not 1 <= least <= most:
        raise InputError("not a range of pods", got=f"--replicas {least}:{most}", expected="MIN:MAX, 1 <= MIN <= MAX")
    return Cluster(serving.image, serving.base_image or BASE, (least, most))


def _served_at(serving: Serving) -> str:
    place = serving.served_at or SERVED_AT
    if not PLACE.fullmatch(place):
        raise InputError(
            "not a place in an image",
            got=f"--served-at {place}",
            expected=f"a path from the root, as {SERVED_AT}, of letters, digits, and . _ -",
        )
    return place


def object_name(model: str) -> str:
    """A model's name as a DNS label: a Service's name begins with a letter, and the longest has 63 characters, some of
    which pods need."""
    label = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return (label if label[:1].isalpha() else f"lat-{label}")[:LONGEST_NAME].rstrip("-")


def _architecture() -> str:
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def _targets(tensors: Tensors, needs: HostNeeds, resources: PodResources) -> tuple[int, int]:
    """What may wait in a pod: as many requests as it runs at once, as long as one of the longest runs."""
    run_us = USUAL_QUEUE_US if needs.not_measured else round(needs.run_s * 1e6)
    return tensors.instances * resources.rows, max(run_us, 2 * tensors.queue_delay_us, LEAST_QUEUE_US)


def _write_manifests(folder: Path, work: Workload, scaling: Object) -> None:
    place = folder / MANIFESTS
    place.mkdir()
    objects = [deployment(work), service(work), scaling, disruption_budget(work)]
    names = [f"{one['kind'].lower()}.yaml" for one in objects]
    for name, one in zip(names, objects, strict=True):
        (place / name).write_text(as_yaml(one))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": names,
    }
    (place / "kustomization.yaml").write_text(as_yaml(kustomization))
    (folder / ADAPTER).write_text(as_yaml(adapter_values()))


def as_yaml(value: Any) -> str:
    import yaml

    # Once through JSON, no value stands in two places: a reference to one is hard to read and to patch.
    copied = json.loads(json.dumps(value))
    return str(yaml.safe_dump(copied, sort_keys=False, default_flow_style=False, width=200))


def _image(tensors: Tensors, work: Workload, cluster: Cluster, *, with_text: bool) -> ServingImage:
    signature = tensors.bundle.signature
    return ServingImage(
        title=f"{signature.family}, {signature.task}",
        base=cluster.base_image,
        packages=python_packages(tensors.backend, tensors.device, with_text=with_text),
        models=MODELS,
        served_at=tensors.served_at.removesuffix(f"/{tensors.name}/{VERSION}"),
        args=work.args,
        start_s=work.resources.start_s,
        digest=work.digest,
    )


def _notes(tensors: Tensors, needs: HostNeeds, resources: PodResources, image: ServingImage) -> list[str]:
    notes = [
        "never run on a cluster, and the image never built: there is neither where this was written",
        f"memory is for at most {resources.rows} of the longest rows, {needs.tokens} tokens, in a run of each copy; a "
        "client that sends more at once can end the server",
    ]
    if needs.not_measured:
        notes.append(f"memory and times are an estimate, not measured here: {needs.not_measured}")
    if tensors.of_engine:
        built = tensors.bundle.manifest["build"].get("version") or "the version that built it"
        notes.append(f"the plan runs in the TensorRT that built it ({built}): {image.base} has to hold that one")
    return notes


FORMAT = KubernetesFormat()
