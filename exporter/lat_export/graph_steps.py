"""A graph as a search for a divergence sees it: steps in order, and the values that cross each place between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

LAYER = re.compile(r"^layer\.(\d+)\.")


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    Attributes:
        op: its type, with the domain where it has one.
        inputs: values that other nodes or the caller give; weights are none.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def layer(self) -> int | None:
        """The number in `layer.<i>.`, which the exporter puts before the names of a layer's nodes."""
        found = LAYER.match(self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Steps:
    """A graph as far as a search needs it.

    Attributes:
        steps: in an order in which they can run.
        whole_numbers: values of an integer type: shapes, indices and masks.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    whole_numbers: frozenset[str] = frozenset()

    def cut(self, position: int) -> tuple[str, ...]:
        """Values made before `position` that are used from there on, in the order in which they are made."""
        used = {name for step in self.steps[position:] for name in step.inputs} | set(self.outputs)
        return tuple(name for step in self.steps[:position] for name in step.outputs if name in used)
