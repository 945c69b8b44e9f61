"""How far an output may be from PyTorch's.

It is loosened only in `BUILT_IN`, with a reason, or by a file of the user's, which the report then holds whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lat_export.errors import InputError, first_line

ANY = "*"


@dataclass(frozen=True)
class Tolerance:
    """One line of the table.

    Attributes:
        target, precision, op, output: what it is for; `ANY` for all. `op` is a `lat` op that the model has.
        relative_l2: largest |out - ref| / |ref| that passes.
    """

    relative_l2: float
    reason: str
    target: str = ANY
    precision: str = ANY
    op: str = ANY
    output: str = ANY

    def holds_for(self, target: str, precision: str, ops: Iterable[str], output: str) -> bool:
        wanted = (self.target, {target}), (self.precision, {precision}), (self.op, set(ops)), (self.output, {output})
        return all(mine == ANY or mine in names for mine, names in wanted)

    @property
    def exactness(self) -> int:
        return sum(name != ANY for name in (self.target, self.precision, self.op, self.output))


BUILT_IN = (
    Tolerance(1e-5, "float32 programs that sum in another order agree this far", precision="fp32"),
    Tolerance(5e-3, "half precision: 11 bits, through 12 layers", precision="fp16"),
    Tolerance(2e-2, "bfloat16: 8 bits, through 12 layers", precision="bf16"),
)

# Sampled attention: where the reference with its queries and keys moved by 64 roundings is further from itself than the
# tolerance, hash codes flip, and this many times that distance passes. Flips in one layer make more in the next, so the
# distance grows more slowly than the move: PyTorch and onnxruntime were 0.3 of it apart at 512 tokens and 12 layers of
# full size, 0.6 at 1024.
FLIP_MARGIN = 2.0

# An output of at most this many numbers (the logit of a regression, the scores of two choices, all of one token) can
# come out near zero by cancellation, where no float32 program keeps a relative error. Its error is measured against what
# the norm of as many numbers of that output usually is over the table of cases, or its own norm where that is larger.
FEW_NUMBERS = 32


@dataclass(frozen=True)
class Tolerances:
    """The built-in table, and before it what a user's file says.

    Attributes:
        source: name of that file; None for the built-in table alone.
    """

    overrides: tuple[Tolerance, ...] = ()
    source: str | None = None

    @classmethod
    def read(cls, path: Path) -> Tolerances:
        """`{"tolerances": [{"relative_l2": 1e-4, "reason": "...", "output": "logits"}, ...]}`.

        Raises:
            InputError: no such file, not that form, a line without a reason, or a number that is no tolerance.
        """
        try:
            rows = tuple(Tolerance(**row) for row in json.loads(path.read_text())["tolerances"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "no file of tolerances",
                got=f"{path}: {first_line(error)}",
                expected='{"tolerances": [{"relative_l2": 1e-4, "reason": "why", "output": "logits"}]}; '
                "target, precision, op and output may be left out",
            ) from error
        for row in rows:
            number = row.relative_l2 if isinstance(row.relative_l2, int | float) else 0.0
            if not str(row.reason).strip() or not 0 < number < float("inf"):
                raise InputError("a tolerance is a finite number above 0, with a reason", got=asdict(row))
        return cls(rows, path.name)

    def find(self, target: str, precision: str, ops: Iterable[str], output: str) -> Tolerance:
        """The most exact line that holds, a user's before a built-in one."""
        names = set(ops)
        for table in (self.overrides, BUILT_IN):
            held = [row for row in table if row.holds_for(target, precision, names, output)]
            if held:
                return max(held, key=lambda row: row.exactness)
        raise InputError("no tolerance for that precision", got=precision, expected=", ".join(RELATIVE_L2))

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.source,
            "overrides": [asdict(row) for row in self.overrides],
            "built_in": [asdict(row) for row in BUILT_IN],
        }


# The built-in tolerance of each precision.
RELATIVE_L2 = {row.precision: row.relative_l2 for row in BUILT_IN}
