"""The table of cases: lengths, paddings and global patterns at which attention code goes wrong, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lat_export.types import Range, Signature

if TYPE_CHECKING:
    import numpy as np

SEED = 20261120
CHOICES = 3

PADDINGS = ("none", "left", "right", "one row all padding")
GLOBALS = ("none", "first", "scattered", "all")


@dataclass(frozen=True)
class Case:
    """One call of a model.

    Attributes:
        batch: B.
        tokens: N.
        padding: one of `PADDINGS`; the rows of a batch are padded by different amounts.
        global_tokens: one of `GLOBALS`, for families that have global tokens; "scattered" differs from row to row.
    """

    batch: int
    tokens: int
    padding: str = "none"
    global_tokens: str = "none"

    @property
    def name(self) -> str:
        return f"B={self.batch} N={self.tokens} padding={self.padding} globals={self.global_tokens}"


FIRST_CASE = ("none", "first")
# The longest case is costly at full size, so it comes once, with a batch of one.
LAST_CASE = ("right", "scattered")
# Together these meet every padding and every pattern.
PATTERNS = (
    ("none", "none"),
    ("right", "scattered"),
    ("left", "first"),
    ("none", "all"),
    ("one row all padding", "scattered"),
)


def case_table(signature: Signature, sequence: Range | None = None) -> tuple[Case, ...]:
    """Cases for one model: every boundary length with one pattern in turn, one length with all, and the maximum.

    Args:
        sequence: lengths that the artifact is built for; others are left out.
    """
    lengths = _lengths(signature, sequence)
    cases = [Case(1, lengths[0], *FIRST_CASE)]
    cases += [Case(2, tokens, *PATTERNS[index % len(PATTERNS)]) for index, tokens in enumerate(lengths[:-1])]
    pattern_length = signature.pattern_length if signature.pattern_length in lengths else lengths[len(lengths) // 2]
    cases += [Case(2, pattern_length, *row) for row in PATTERNS]
    cases.append(Case(1, lengths[-1], *LAST_CASE))
    if signature.max_global is None:
        cases = [Case(case.batch, case.tokens, case.padding) for case in cases]
    return tuple(dict.fromkeys(cases))


def _lengths(signature: Signature, sequence: Range | None) -> list[int]:
    wanted = {1, *signature.boundary_lengths, signature.pattern_length, signature.max_tokens}
    if sequence is not None:
        wanted |= {sequence.min, sequence.opt, sequence.max}
    return sorted(n for n in wanted if n <= signature.max_tokens and (sequence is None or n in sequence))


def case_inputs(signature: Signature, case: Case) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of a case, the same for the same signature and case.

    Returns:
        int64 arrays by input name, of the dims that the signature gives, with `CHOICES` choices where it has them.
    """
    import numpy as np

    dims = signature.inputs[0].dims
    shape = tuple({"batch": case.batch, "choices": CHOICES, "sequence": case.tokens}[str(dim)] for dim in dims)
    rng = np.random.default_rng([SEED, *shape, PADDINGS.index(case.padding), GLOBALS.index(case.global_tokens)])
    rows = int(np.prod(shape[:-1]))
    keep = _keep(case, rows)
    ids = rng.integers(0, signature.vocab_size - 1, size=(rows, case.tokens))
    ids += ids >= signature.pad_token_id  # every id but the padding's
    arrays = {
        "input_ids": np.where(keep, ids, signature.pad_token_id),
        "attention_mask": keep.astype(np.int64),
        "global_attention_mask": (_globals(case, keep, rng) & keep).astype(np.int64),
    }
    return {spec.name: arrays[spec.name].reshape(shape) for spec in signature.inputs}


def _keep(case: Case, rows: int) -> np.ndarray[Any, Any]:
    """bool (rows, N): which positions are no padding; row r of a padded case loses more the larger r is."""
    import numpy as np

    keep = np.ones((rows, case.tokens), dtype=bool)
    for row in range(rows):
        lost = case.tokens * (row + 1) // (rows + 2)
        if case.padding == "right":
            keep[row, case.tokens - lost :] = False
        elif case.padding == "left":
            keep[row, :lost] = False
    if case.padding == "one row all padding":
        keep[-1] = False
    return keep


def _globals(case: Case, keep: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """bool (rows, N): which positions are global."""
    import numpy as np

    marked = np.zeros_like(keep)
    if case.global_tokens == "all":
        marked[:] = True
    for row, kept in enumerate(np.flatnonzero(line) for line in keep):
        if case.global_tokens == "first":
            marked[row, kept[:1]] = True
        elif case.global_tokens == "scattered" and kept.size:
            # As many as the row's number plus two, the last token always among them.
            marked[row, rng.choice(kept, size=min(row + 2, kept.size), replace=False)] = True
            marked[row, kept[-1]] = True
    return marked
