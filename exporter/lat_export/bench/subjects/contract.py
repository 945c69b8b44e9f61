"""What a kind of subject is: whether it can run, what its process must know, and how it runs there.

A kind on another device goes into a file of its own: `Opened.run` returns when the outputs are on the host, and `timed`
tells the seconds of the device's own clock.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.op_times import OpTime
from lat_export.errors import LatExportError

if TYPE_CHECKING:
    import numpy as np

    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point

Arrays = dict[str, "np.ndarray[Any, Any]"]
# Parts of a request to a GPU: the copies, all of it as the host's clock sees it, and a request among many in a row.
PARTS = HOST_TO_DEVICE, DEVICE_TO_HOST, WHOLE_REQUEST, BACK_TO_BACK = (
    "host to device",
    "device to host",
    "whole request",
    "back to back",
)


@dataclass(frozen=True)
class Timed:
    """
    Attributes:
        seconds: of one run, what subjects are compared by.
        parts: further seconds by name, of `PARTS`.
    """

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


class Opened(ABC):
    """A subject that is ready to run, in its process.

    Attributes:
        operations: of one run, where the subject measures the machine's rate.
        note: what its figures need said.
    """

    operations: int | None = None
    note: str | None = None

    @abstractmethod
    def run(self) -> Arrays:
        """One run; the outputs by name."""

    def timed(self) -> Timed:
        """One round."""
        started = time.perf_counter()
        self.run()
        return Timed(time.perf_counter() - started)

    def device_bytes(self) -> dict[str, int] | None:
        """Memory on another device than the CPU, by what it is for; None where there is none."""
        return None

    def op_times(self, folder: Path) -> list[OpTime] | None:
        """Of a further run, largest first; None where the subject cannot tell. Its figures are not for timing.

        Args:
            folder: for files on the way.
        """
        return None


class SubjectKind(ABC):
    """
    Attributes:
        name: as `--subject` takes it.
        title: as people write it.
        only_when_named: why it is not measured wherever it can run; None where it is.
        is_pytorch: others are compared with it by default.
        on_gpu: its runs are timed on a GPU: the floor, which is of the CPU, is not for it.
        belongs_to: the bundles that it is of, where it is not of all.
    """

    name: str
    title: str
    only_when_named: str | None = None
    is_pytorch: bool = False
    on_gpu: bool = False
    belongs_to: str | None = None

    def names(self, given: Given) -> list[str]:
        """Its subjects' names in results; one for most kinds."""
        return [self.name]

    def lack(self, given: Given) -> LatExportError | None:
        """Why it cannot run here, and how to change that; None where it can."""
        return None

    @abstractmethod
    def arguments(self, given: Given, name: str, point: Point) -> dict[str, Any]:
        """What `open` needs to know, as JSON takes it."""

    @abstractmethod
    def open(self, arguments: dict[str, Any], inputs: Arrays, threads: int) -> Opened:
        """Load it, in its own process.

        Args:
            arguments: what `arguments` gave.
            inputs: of every run, int64 arrays by input name.
        """
