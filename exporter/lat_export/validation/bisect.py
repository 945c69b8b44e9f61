"""Where two programs of one graph part: the first node whose outputs leave the band, in a logarithm of runs.

A cut is a place in the order of the nodes; the values that cross it are all that the rest can see. A cut is clean if
each of them is within the band on both sides. The inputs are clean and the outputs are not, so halving between a clean
cut and one that is not ends at a node. Only the few values of one cut are asked for at once: to make every value an
output would change what an engine fuses, and fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from lat_export.errors import InputError
from lat_export.graph_steps import Step, Steps
from lat_export.validation.compare import difference
from lat_export.validation.report import Divergence, LayerError, Probe

Arrays = dict[str, np.ndarray[Any, Any]]


class Side(Protocol):
    """One of the two programs."""

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> Steps:
        """Its graph."""

    @property
    def values(self) -> frozenset[str]:
        """Names of the values that it can give."""

    def __call__(self, inputs: Arrays, wanted: Sequence[str]) -> Arrays:
        """Run it once; the values that are wanted, by name."""


def first_divergence(
    sides: tuple[Side, Side],
    inputs: Arrays,
    band: float,
    case: str,
    tell: Callable[[str], None] = lambda _: None,
) -> Divergence:
    """Find the first node at which two sides part.

    Args:
        sides: it is the graph of the first that is searched.
        band: largest relative L2 error of a value that is not yet divergence.
        case: name of the inputs, for the report.
    Raises:
        InputError: the sides have no output in common.
    """
    search = _Search(sides, inputs, band, tell)
    end = len(sides[0].steps.steps)
    last = search.probe(end)
    if last.clean:
        return search.result(case, found=False, low=end, high=end)
    cuts = [position for position in range(end) if search.is_shared(position)]
    low, high = -1, len(cuts)  # indices into `cuts`: before the first, the inputs, which are the same by definition
    while high - low > 1:
        middle = (low + high) // 2
        if search.probe(cuts[middle]).clean:
            low = middle
        else:
            high = middle
    return search.result(case, found=True, low=cuts[low] if low >= 0 else 0, high=[*cuts, end][high])


class _Search:
    def __init__(self, sides: tuple[Side, Side], inputs: Arrays, band: float, tell: Callable[[str], None]) -> None:
        self._sides, self._inputs, self._band, self._tell = sides, inputs, band, tell
        self._graph = graph = sides[0].steps
        nodes = [{(step.name, step.op, name) for step in side.steps.steps for name in step.outputs} for side in sides]
        # One name for two things is worse than none: the node that makes a value must be the same, too.
        same = {name for _, _, name in nodes[0] & nodes[1]} | set(graph.outputs)
        self._shared = sides[0].values & sides[1].values & same
        self._probes: dict[int, Probe] = {}
        self._errors: dict[int, dict[str, float]] = {}
        if not set(graph.outputs) & self._shared:
            raise InputError(
                "the two sides have no value in common, so nothing can be compared",
                got=f"{sides[0].name}; {sides[1].name}",
                expected="two programs of one export",
                hint="export both with one version of lat-export and of torch",
            )

    def is_shared(self, position: int) -> bool:
        """Whether both sides can give every value of a cut; of shapes and masks, those that they can."""
        crossing = self._graph.cut(position)
        numbers = [name for name in crossing if name not in self._graph.whole_numbers]
        return bool(crossing) and all(name in self._shared for name in numbers)

    def probe(self, position: int) -> Probe:
        if position in self._probes:
            return self._probes[position]
        wanted = [name for name in self._graph.cut(position) if name in self._shared]
        errors = self._errors_of(wanted)
        worst = max(errors.values(), default=0.0)
        found = Probe(position, tuple(wanted), worst, clean=worst <= self._band)
        self._probes[position], self._errors[position] = found, errors
        self._tell(f"cut {position} of {len(self._graph.steps)}: {'clean' if found.clean else f'error {worst:.1e}'}")
        return found

    def _errors_of(self, wanted: Sequence[str]) -> dict[str, float]:
        left, right = (side(self._inputs, wanted) for side in self._sides)
        return {name: _error(left[name], right[name]) for name in wanted}

    def result(self, case: str, *, found: bool, low: int, high: int) -> Divergence:
        steps = self._to_blame(low, high) if found else []
        layers = [step.layer for step in steps if step.layer is not None]
        return Divergence(
            sides=(self._sides[0].name, self._sides[1].name),
            case=case,
            found=found,
            band=self._band,
            layer=layers[0] if layers else None,
            nodes=tuple(f"{step.op} {step.name}" for step in steps),
            error_before=self._probes[low].worst if low in self._probes else 0.0,
            error_after=self._probes[high].worst,
            runs=len(self._probes),
            probes=tuple(self._probes.values()),
        )

    def _to_blame(self, low: int, high: int) -> list[Step]:
        """The steps between two cuts from which a value comes that is out of the band on the second."""
        wanted = {name for name, error in self._errors[high].items() if error > self._band}
        blamed: list[Step] = []
        for step in reversed(self._graph.steps[low:high]):
            if wanted & set(step.outputs):
                blamed.insert(0, step)
                wanted |= set(step.inputs)
        return blamed


def _error(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    if ours.shape != theirs.shape and ours.size == theirs.size:
        ours = ours.reshape(theirs.shape)  # a size is a number on one side and a list of one on the other
    try:
        return difference(ours, theirs).relative_l2
    except ValueError:  # another shape is as far off as can be
        return float("inf")


def errors_by_layer(sides: tuple[Side, Side], inputs: Arrays) -> tuple[LayerError, ...]:
    """The error of the values that leave each layer of the first side's graph, a run a layer."""
    search = _Search(sides, inputs, float("inf"), lambda _: None)
    graph = sides[0].steps
    ends = {step.layer: position + 1 for position, step in enumerate(graph.steps) if step.layer is not None}
    first = min((position for position, step in enumerate(graph.steps) if step.layer == 0), default=0)
    found = []
    for layer, position in [(-1, first), *sorted(ends.items())]:
        if search.is_shared(position):
            found.append(LayerError(layer, search.probe(position).worst))
    return tuple(found)
