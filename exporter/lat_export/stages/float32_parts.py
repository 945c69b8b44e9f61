"""float32_parts: portable model in float32 + golden tensors -> the parts that cannot be in half precision.

The policy of `lat_export.precision` holds for every checkpoint; what a checkpoint makes of 8 or 11 bits differs. Where
all of its parts rounded are too far from PyTorch, each is rounded alone. Those whose error is largest for their size
stay in float32, as many as bring every golden case within the tolerance; then the largest of them are tried in half
precision once more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from lat_export.precision import Kept, chosen, parts_beyond, parts_of
from lat_export.stages.graph import Graph
from lat_export.targets.switched_roundings import SwitchedModel
from lat_export.validation.check import Judge, judged, usual_sizes
from lat_export.validation.golden import Golden, GoldenCase

# Of the tolerance, once parts are chosen. An engine adds up in another order, and its roundings fall otherwise: two
# programs that are as good differ by a few ten per cent.
MARGIN = 0.8
# Cases by which parts are compared: the shortest, up to so many tokens together.
COMPARED_TOKENS = 512
# How many parts are tried in half precision once more: each is all golden cases again.
TRIED_AGAIN = 12


def named(graph: Graph, names: Iterable[str], *, asked: bool = True) -> Kept:
    """What the user names; with `asked` false, what there is where nobody could be asked.

    Raises:
        InputError: a name that means no part of the model.
    """
    import onnx_ir as ir

    parts = parts_of(ir.load(graph.model))
    return Kept(chosen(parts, names), len(parts), asked=asked)


def needed(
    graph: Graph,
    golden: Golden,
    judge: Judge,
    scratch: Path,
    tell: Callable[[str], None] = lambda _: None,
    overflowing: Collection[str] = (),
) -> Kept:
    """What parity needs; of what it decides, nothing where not even one part can be rounded.

    Every number that an engine would store in half precision is rounded; sums are in float32.

    Args:
        graph: in float32.
        judge: tolerances and precision.
        tell: called with a line where parts are looked for.
        overflowing: parts that are kept in any case, as those are that have a weight beyond the precision.
    """
    import onnx_ir as ir

    program = ir.load(graph.model)
    whole = parts_of(program)
    always = {*overflowing, *parts_beyond(program, judge.precision)}
    del program
    if always:
        tell(f"beyond what {judge.precision} can hold, so that they stay in fp32: {', '.join(sorted(always))}")
    search = _Search(SwitchedModel(graph.model, golden.signature, judge.precision, scratch, always), golden, judge)

    def found(kept: Collection[str], worst: _Worst, alone: dict[str, float]) -> Kept:
        names = tuple(part for part in whole if part in always or part in kept)
        return Kept(names, len(whole), error=worst.error, error_without=first.error, alone=alone)

    parts, first = search.model.parts, search.worst(())
    if first.share <= 1 or not parts:
        return found((), first, {})
    tell(f"every part in {judge.precision} is too far from PyTorch, {first}: looking for parts to keep in fp32")
    alone = search.alone()
    costly = max(parts, key=alone.__getitem__)
    tell(f"{costly} costs most of {len(parts)} parts: {alone[costly]:.1e} with only it in {judge.precision}")
    enough = search.thinned(search.enough(search.by_gain(alone)))
    if len(enough) == len(parts):
        return found((), first, alone)
    then = search.worst(enough)
    kept = found(enough, then, alone)
    tell(f"{len(kept.parts)} of {len(whole)} parts stay in fp32, then {then}: {', '.join(kept.parts)}")
    return kept


@dataclass(frozen=True)
class _Worst:
    """The output that is furthest out: its relative L2, the tolerance, and the one as a share of the other."""

    share: float
    error: float
    tolerance: float

    def __str__(self) -> str:
        return f"relative L2 {self.error:.1e} where {self.tolerance:.0e} is allowed"


class _Search:
    def __init__(self, model: SwitchedModel, golden: Golden, judge: Judge) -> None:
        self.model, self._golden, self._judge = model, golden, judge
        self._usual = usual_sizes(golden)
        # A case that failed last: where a program will not do, it is mostly that one again.
        self._hardest: GoldenCase | None = None

    def worst(self, kept: Collection[str]) -> _Worst:
        rows = [row for case in self._golden for row in self._rows(case, kept)]
        return max(rows, key=lambda row: row.share)

    def alone(self) -> dict[str, float]:
        """By part: root mean square of the relative L2 of outputs with only it rounded, on short cases."""
        cases = shortest(self._golden)
        return {part: self._mean(cases, set(self.model.parts) - {part}) for part in self.model.parts}

    def by_gain(self, alone: dict[str, float]) -> list[str]:
        """First what gives most for its weights; squares, as errors that know nothing of each other add up so."""
        return sorted(self.model.parts, key=lambda part: -(alone[part] ** 2) / self._cost(part))

    def enough(self, order: list[str]) -> list[str]:
        """As few of `order` from its beginning as will do."""
        too_few, enough = 0, len(order)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if self._will_do(order[:middle]):
                enough = middle
            else:
                too_few = middle
        return order[:enough]

    def thinned(self, kept: list[str]) -> list[str]:
        """Without those that are not needed after all, the largest first."""
        for part in sorted(kept, key=self._cost, reverse=True)[:TRIED_AGAIN]:
            rest = [other for other in kept if other != part]
            if rest and self._will_do(rest):
                kept = rest
        return kept

    def _cost(self, part: str) -> int:
        """Weights; of attention, which may have none, those of the layers that feed it, as its arithmetic is alike."""
        layer, _, kind = part.rpartition(".")
        own = self.model.weights[part]
        return max(own, self.model.weights.get(f"{layer}.query_key", 0)) if kind == "attention" else max(own, 1)

    def _will_do(self, kept: Collection[str]) -> bool:
        if self._hardest is not None and not self._passes(self._hardest, kept):
            return False
        failed = next((case for case in self._golden if not self._passes(case, kept)), None)
        self._hardest = failed or self._hardest
        return failed is None

    def _passes(self, case: GoldenCase, kept: Collection[str]) -> bool:
        return all(row.share <= MARGIN for row in self._rows(case, kept))

    def _mean(self, cases: list[GoldenCase], kept: Collection[str]) -> float:
        errors = [row.error for case in cases for row in self._rows(case, kept)]
        return float((sum(error**2 for error in errors) / len(errors)) ** 0.5)

    def _rows(self, case: GoldenCase, kept: Collection[str]) -> list[_Worst]:
        outputs = self.model.run(case.inputs, kept)
        rows = judged(case, outputs, self._golden.signature, self._judge, self._usual)
        return [_Worst(row.relative_l2 / row.tolerance, row.relative_l2, row.tolerance) for row in rows]


def shortest(golden: Golden, most: int = COMPARED_TOKENS) -> list[GoldenCase]:
    """At least one case; more while they have no more than `most` tokens together."""
    sizes = [case.inputs["attention_mask"].size for case in golden]
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    wanted, tokens = {order[0]}, sizes[order[0]]
    for index in order[1:]:
        tokens += sizes[index]
        if tokens > most:
            break
        wanted.add(index)
    return [case for index, case in enumerate(golden) if index in wanted]
