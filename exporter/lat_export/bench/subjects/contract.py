"""What a kind of subject is: whether it can run, what its process must know, and how it runs there.

A kind on another device goes into a file of its own: `Opened.run` returns when the outputs are on the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.bench.op_times import OpTime
from lat_export.errors import LatExportError

if TYPE_CHECKING:
    import numpy as np

    from lat_export.bench.given import Given
    from lat_export.bench.sweep import Point

Arrays = dict[str, "np.ndarray[Any, Any]"]


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
    """

    name: str
    title: str
    only_when_named: str | None = None
    is_pytorch: bool = False

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
