"""Dockerfile of a serving image: NVIDIA's Triton with the model repository in it.

The repository is in the image, not on a volume: a pod is then one digest, which a rollout or a rollback changes whole,
a new node needs no storage that many can read, and nothing that runs can change a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from lat_export import __version__
from lat_export.deploy.kubernetes_objects import PORTS, READY, USER
from lat_export.errors import InputError

DOCKERFILE = "Dockerfile"
IGNORED = ".dockerignore"
BASE = "nvcr.io/nvidia/tritonserver:26.07-py3"
HOST = r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?"
NAME = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
IMAGE = re.compile(
    rf"{HOST}{NAME}(?:/{NAME})*(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
# Later versions of Triton's image install it so: its Python backend was built for numpy 1.
NUMPY = "numpy<2"


@dataclass(frozen=True)
class ServingImage:
    """
    Attributes:
        packages: of Python, that the models import.
        models: folder of the repository beside the Dockerfile.
        served_at: where it lies in the image.
        args: command of the container.
        start_s: within which it may be unhealthy.
        digest: SHA-256 of the bundle's manifest.
    """

    title: str
    base: str
    packages: tuple[str, ...]
    models: str
    served_at: str
    args: tuple[str, ...]
    start_s: int
    digest: str


def demand_image(option: str, image: str) -> str:
    """`image`, where it names one image for good.

    Raises:
        InputError: it is no name of an image, or one that means another image tomorrow.
    """
    found = IMAGE.fullmatch(image)
    if found is None:
        raise InputError(
            "not a name of an image", got=f"{option} {image}", expected="[REGISTRY/]NAME:TAG, or ...@sha256:DIGEST"
        )
    if found["digest"] is None and found["tag"] in (None, "latest"):
        raise InputError(
            "the image has to have a tag of its own, or a digest",
            got=f"{option} {image}",
            expected=f"say, {image.removesuffix(':latest')}:1",
            hint="latest means another image tomorrow: a pod that starts anew would not be the one that was tested",
        )
    return image


def python_packages(backend: str, device: str, *, with_text: bool) -> tuple[str, ...]:
    """What pip installs for the python backend, in the versions that are here."""
    packages = [f"tokenizers=={version('tokenizers')}"] if with_text else []
    if backend == "python":
        name = "onnxruntime-gpu" if device == "gpu" else "onnxruntime"
        packages.insert(0, f"{name}=={version('onnxruntime')}")
    return (NUMPY, *packages) if packages else ()


def dockerfile(image: ServingImage) -> str:
    return "\n".join(_lines(image)) + "\n"


def _lines(image: ServingImage) -> Iterator[str]:
    yield f"# {image.title}, served by NVIDIA Triton; written by lat-export bundle --format kubernetes."
    yield "# Linted, never built where it was written: there was no container engine."
    yield f"FROM {image.base}"
    yield ""
    labels = {
        "org.opencontainers.image.title": image.title,
        "org.opencontainers.image.description": "A model repository and NVIDIA Triton Inference Server",
        "org.opencontainers.image.base.name": image.base,
        "org.opencontainers.image.version": image.digest[:12],
        "lat-export.version": __version__,
        "lat-export.bundle.manifest.sha256": image.digest,
    }
    yield "LABEL " + " \\\n      ".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
    yield ""
    if image.packages:
        yield "# Into the server's own Python: the python backend knows no other."
        words = " ".join(json.dumps(word) if "<" in word else word for word in image.packages)
        yield f"RUN pip3 install --no-cache-dir --break-system-packages {words}"
        yield ""
    yield "# Owned by root: what serves cannot change it."
    yield f"COPY {image.models} {image.served_at}"
    yield ""
    yield "ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1"
    yield "# triton-server of NVIDIA's image; by its number, so that Kubernetes can tell that it is not root."
    yield f"USER {USER}:{USER}"
    yield f"EXPOSE {' '.join(map(str, PORTS.values()))}"
    yield f"HEALTHCHECK --interval=10s --timeout=5s --start-period={image.start_s}s --retries=3 \\"
    yield f"  CMD {_words('curl', '--fail', '--silent', '--output', '/dev/null', _ready())}"
    yield f"CMD {_words(*image.args)}"


def _ready() -> str:
    return f"http://127.0.0.1:{PORTS['http']}{READY}"


def _words(*words: str) -> str:
    return json.dumps(words)


def dockerignore(kept: Sequence[str]) -> str:
    """Nothing but what is copied goes to the engine."""
    return "\n".join(("*", *(f"!{name}" for name in kept))) + "\n"
