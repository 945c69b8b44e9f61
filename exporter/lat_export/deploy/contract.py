"""What a deployment format is: it lays out in a folder what a server or a device takes, from a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lat_export.stages.bundle import Bundle

BACKENDS = ("onnxruntime", "tensorrt", "python")
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Cluster:
    """What a cluster runs.

    Attributes:
        image: the name that the serving image is pushed under, with a tag or a digest.
        base_image: of Triton, what that image is made from; None for `docker_image.BASE`.
        replicas: pods at least and at most.
    """

    image: str
    base_image: str | None = None
    replicas: tuple[int, int] = (2, 8)


@dataclass(frozen=True)
class Serving:
    """How a model is to be served; None leaves the choice to the format.

    Attributes:
        out: where the deployment will lie.
        name: of the model.
        backend: of `BACKENDS`, what runs the tensors.
        device: of `DEVICES`.
        max_batch: most rows that the server may join from different requests; 0 for none.
        instances: copies of the model that run at a time.
        queue_delay_us: how long a request may wait for others to share a batch with.
        served_at: where the server sees `out`.
        text: whether a model that takes text is put before the tensors.
        threads: of each copy, in onnxruntime; None for its own default, one for every core that it sees.
        cluster: for formats that write manifests.
        platform: processor that it is for, as `uname -m` prints it.
        onnxruntime: unpacked release of onnxruntime whose library is taken.
        tell: takes a line of progress.
    """

    out: Path
    name: str | None = None
    backend: str | None = None
    device: str | None = None
    max_batch: int | None = None
    instances: int = 1
    queue_delay_us: int = 1000
    served_at: str | None = None
    text: bool = True
    threads: int | None = None
    cluster: Cluster | None = None
    platform: str | None = None
    onnxruntime: Path | None = None
    tell: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Written:
    """
    Attributes:
        facts: what the manifest keeps.
        notes: what the user should know, in sentences.
        start: the command that serves it.
    """

    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    start: str = ""


class Format(ABC):
    """One kind of deployment.

    Attributes:
        name: as `--format` takes it.
        title: as people write it.
    """

    name: str
    title: str

    @abstractmethod
    def write(self, bundle: Bundle, folder: Path, serving: Serving) -> Written:
        """Fill an empty `folder`.

        Raises:
            InputError: the bundle or an option is not one that this format can serve.
            MissingError: a library that it needs is not here.
        """


@dataclass(frozen=True)
class Deployment:
    """A finished deployment on disk."""

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
