"""The table of cases: lengths, paddings and global patterns at which attention code goes wrong, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lat_export.types import Range, Signature

if TYPE_CHECKING:
    import numpy as np

SEED = 20261120

PADDINGS = ("none", "left", "right", "one row all padding")
GLOBALS = ("none", "first", "scattered", "all", "up to the bound")
# The padding and the global tokens of a case whose inputs a user gave.
GIVEN = "given"


@dataclass(frozen=True)
class Case:
    """One call of a model.

    Attributes:
        batch: B.
        tokens: N.
        padding: one of `PADDINGS`; the rows of a batch are padded by different amounts.
        choices: C, for multiple choice.
        global_tokens: one of `GLOBALS`, for families that have global tokens; "scattered" differs from row to row,
            "up to the bound" has as many as an engine takes.
        source: where a user's own inputs come from, as "texts.jsonl line 3"; padding and globals are then `GIVEN`.
    """

    batch: int
    tokens: int
    padding: str = "none"
    global_tokens: str = "none"
    choices: int | None = None
    source: str | None = None

    @property
    def name(self) -> str:
        choices = "" if self.choices is None else f" C={self.choices}"
        sizes = f"B={self.batch}{choices} N={self.tokens}"
        if self.source is not None:
            return f"{self.source} {sizes}"
        return f"{sizes} padding={self.padding} globals={self.global_tokens}"


FIRST_CASE = ("none", "first")
# The longest case is costly at full size, so it comes once, with a batch of one. It has no padding: every position is
# a token's somewhere.
LAST_CASE = ("none", "scattered")
# Of a larger batch, at a middling length.
BATCH_CASE = ("left", "first")
# Together these meet every padding and every pattern.
PATTERNS = (
    ("none", "none"),
    ("right", "scattered"),
    ("left", "first"),
    ("right", "first"),
    ("none", "all"),
    ("one row all padding", "scattered"),
    ("none", "up to the bound"),
)
# Taken where the artifact's sizes admit them.
USUAL_BATCH = 2
LARGEST_BATCH = 3
USUAL_TOKENS = 512
USUAL_CHOICES = 3


def case_table(signature: Signature, sizes: dict[str, Range] | None = None) -> tuple[Case, ...]:
    """Cases for one model: every boundary length with one pattern in turn, one length with all, and the maximum.

    Args:
        sizes: sizes that the artifact is built for; others are left out.
    """
    sizes = sizes or {}

    def admitted(dim: str, count: int) -> int:
        return count if dim not in sizes or count in sizes[dim] else sizes[dim].opt

    one, two = admitted("batch", 1), admitted("batch", USUAL_BATCH)
    lengths = _lengths(signature, sizes.get("sequence"))
    cases = [Case(two, lengths[0], *FIRST_CASE)]
    # A batch of one here, of two below: at full size the table must not cost more than the export.
    of_one_row = [pattern for pattern in PATTERNS if pattern[0] != "one row all padding"]
    cases += [Case(one, tokens, *of_one_row[index % len(of_one_row)]) for index, tokens in enumerate(lengths[:-1])]
    pattern_length = min(lengths, key=lambda tokens: abs(tokens - signature.pattern_length))
    cases += [Case(two, pattern_length, *row) for row in PATTERNS]
    cases.append(Case(admitted("batch", LARGEST_BATCH), lengths[len(lengths) // 2], *BATCH_CASE))
    cases.append(Case(one, lengths[-1], *LAST_CASE))
    if signature.max_global is None:
        cases = [replace(case, global_tokens="none") for case in cases]
    if "choices" in signature.token_dims:
        cases = [replace(case, choices=admitted("choices", USUAL_CHOICES)) for case in cases]
    return tuple(dict.fromkeys(cases))


def _lengths(signature: Signature, sequence: Range | None) -> list[int]:
    wanted = {1, USUAL_TOKENS, *signature.boundary_lengths, signature.pattern_length, signature.max_tokens}
    if sequence is not None:
        wanted |= {sequence.min, sequence.opt, sequence.max}
    step, longest = signature.multiple_of, signature.max_tokens
    whole = {min(-(-tokens // step), longest // step) * step for tokens in wanted}
    return sorted(n for n in whole if sequence is None or n in sequence)


def case_inputs(signature: Signature, case: Case) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of a case, the same for the same signature and case.

    Returns:
        Arrays by input name, of the dims and dtypes that the signature gives.
    """
    import numpy as np

    sizes = {"batch": case.batch, "choices": case.choices or 1, "sequence": case.tokens}
    shape = tuple(sizes[str(dim)] for dim in signature.token_dims)
    rng = np.random.default_rng([SEED, *shape, PADDINGS.index(case.padding), GLOBALS.index(case.global_tokens)])
    rows = int(np.prod(shape[:-1]))
    keep = _keep(case, rows)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for spec in signature.inputs:
        if spec.name == "input_ids":
            ids = rng.integers(0, (spec.below or 2) - 1, size=keep.shape)
            ids += ids >= signature.pad_token_id  # every id but the padding's
            arrays[spec.name] = np.where(keep, ids, signature.pad_token_id)
        elif spec.name == "inputs_embeds":
            arrays[spec.name] = rng.normal(size=(*keep.shape, int(spec.dims[-1]))).astype(np.float32)
        elif not spec.name.endswith("_mask"):
            arrays[spec.name] = rng.integers(0, spec.below or 1, size=keep.shape)
    arrays["attention_mask"] = keep.astype(np.int64)
    arrays["global_attention_mask"] = _globals(case, keep, rng, signature.max_global or 0).astype(np.int64)
    return {spec.name: arrays[spec.name].reshape(*shape, *spec.dims[len(shape) :]) for spec in signature.inputs}


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


def _globals(case: Case, keep: np.ndarray[Any, Any], rng: np.random.Generator, bound: int) -> np.ndarray[Any, Any]:
    """bool (rows, N): which positions are marked global."""
    import numpy as np

    marked = np.zeros_like(keep)
    if case.global_tokens == "all":
        marked = keep.copy()
    for row, kept in enumerate(np.flatnonzero(line) for line in keep):
        if case.global_tokens == "first":
            marked[row, kept[:1]] = True
        elif case.global_tokens == "scattered" and kept.size:
            # A different number in every row, the last token always among them; and padding, which stays padding.
            marked[row, rng.choice(kept, size=min(row + 1, kept.size), replace=False)] = True
            marked[row, kept[-1]] = True
            marked[row, np.flatnonzero(~keep[row])[:2]] = True
        elif case.global_tokens == "up to the bound":
            marked[row, rng.choice(kept, size=min(bound, kept.size), replace=False)] = True
    return marked
