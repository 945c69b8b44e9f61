"""What a deployment format is: it lays out in a folder what a server or a device takes, from a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lat_export.errors import InputError
from lat_export.stages.bundle import Bundle

BACKENDS = ("onnxruntime", "tensorrt", "python")
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Serving:
    """How a model is to be served; None leaves the choice to the format, and a format takes some only: `Format.takes`.

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
        image: the name that the serving image is pushed under, with a tag or a digest.
        base_image: what that image is made from.
        replicas: pods at least and at most.
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
    image: str | None = None
    base_image: str | None = None
    replicas: tuple[int, int] | None = None
    platform: str | None = None
    onnxruntime: Path | None = None
    tell: Callable[[str], None] = lambda _: None

    @property
    def given(self) -> set[str]:
        """Fields that differ from what they are when nobody asks; `out` and `tell` are no choices."""
        chosen = (one for one in fields(self) if one.name not in ("out", "tell"))
        return {one.name for one in chosen if getattr(self, one.name) != one.default}


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
        takes: fields of `Serving` that it reads.
        why_not: of fields that somebody may look for here, what to do instead.
    """

    name: str
    title: str
    takes: frozenset[str]
    why_not: Mapping[str, str] = MappingProxyType({})

    def demand_taken(self, serving: Serving) -> None:
        """
        Raises:
            InputError: an option was given that this format would ignore.
        """
        surplus = sorted(serving.given - self.takes)
        if surplus:
            raise InputError(
                f"--format {self.name} takes no {', '.join(map(flag, surplus))}",
                got=", ".join(f"{flag(name)} {getattr(serving, name)}".removesuffix(" False") for name in surplus),
                expected=", ".join(map(flag, sorted(self.takes))),
                hint=next((self.why_not[name] for name in surplus if name in self.why_not), "leave it out"),
            )

    @abstractmethod
    def write(self, bundle: Bundle, folder: Path, serving: Serving) -> Written:
        """Fill an empty `folder`.

        Raises:
            InputError: the bundle or an option is not one that this format can serve.
            MissingError: a library that it needs is not here.
        """


def flag(name: str) -> str:
    """The option on the command line of a field of `Serving`."""
    return "--no-text" if name == "text" else f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Deployment:
    """A finished deployment on disk."""

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
