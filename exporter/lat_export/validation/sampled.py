"""Sampled attention (lat::LshCumulation): exact where it must be, and how far off where a hash code may flip.

A code is the signs of T projections. Where one is within rounding of zero, two right programs may disagree on its sign,
and everything after them differs by more than rounding. So a node is judged on its own inputs, by tables built here in
float64: rows that no doubtful sign can reach must agree as closely as anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# A sum of D float32 products is off by at most D roundings of the sum of their magnitudes; twice that is doubtful.
DOUBT_IN_ROUNDINGS = 2.0
FLOAT32_ROUNDING = 2.0**-24
SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class Hashed:
    """One call of the op, by head.

    Attributes:
        query, key, value: (B, H, N, D) float64.
        keep: (B, N) bool, false for padding.
        projection: (H, D, R * T) float64.
        num_hash: R.
    """

    query: Array
    key: Array
    value: Array
    keep: Array
    projection: Array
    num_hash: int

    @classmethod
    def of_node(
        cls, query: Array, key: Array, value: Array, mask: Array, projection: Array, sizes: tuple[int, int]
    ) -> Hashed:
        """Of the inputs of a node: rows (B, N, E), mask (B, N), projection (H, D, R * T); `sizes` are H and R."""
        num_heads, num_hash = sizes

        def heads(rows: Array) -> Array:
            batch, length, width = rows.shape
            split = rows.reshape(batch, length, num_heads, width // num_heads).transpose(0, 2, 1, 3)
            return np.ascontiguousarray(split, dtype=np.float64)  # numpy multiplies others without BLAS

        return cls(heads(query), heads(key), heads(value), mask != 0, projection.astype(np.float64), num_hash)

    @property
    def code_length(self) -> int:
        return int(self.projection.shape[-1]) // self.num_hash

    @cached_property
    def query_signs(self) -> Array:
        """(B, H, N, R, T) bool."""
        return self._by_hash(self.query @ self.projection) > 0

    @cached_property
    def key_signs(self) -> Array:
        return self._by_hash(self.key @ self.projection) > 0

    @cached_property
    def query_doubtful(self) -> Array:
        """(B, H, N, R, T) bool: signs that float32 may see otherwise."""
        return self._doubtful(self.query)

    @cached_property
    def key_doubtful(self) -> Array:
        return self._doubtful(self.key)

    def _doubtful(self, rows: Array) -> Array:
        size = np.abs(rows) @ np.abs(self.projection)
        near = np.abs(rows @ self.projection) <= DOUBT_IN_ROUNDINGS * rows.shape[-1] * FLOAT32_ROUNDING * size
        return self._by_hash(near)

    def _by_hash(self, columns: Array) -> Array:
        return columns.reshape(*columns.shape[:-1], self.num_hash, -1)


def codes_of(signs: Array) -> Array:
    """(..., T) bool -> (...,) int64."""
    found: Array = (signs * (1 << np.arange(signs.shape[-1]))).sum(-1)
    return found


@dataclass(frozen=True)
class SampledCheck:
    """What one node gives, against tables in float64.

    Attributes:
        rows: share of the rows (of a head) that no doubtful sign reaches.
        relative_l2: error of those rows, each divided by its norm as the op does it.
        doubtful_signs: share of all signs.
        expected_error: relative L2 over all rows if each doubtful sign flipped with one chance in two.
    """

    rows: float
    relative_l2: float
    doubtful_signs: float
    expected_error: float


def check_node(hashed: Hashed, output: Array) -> SampledCheck:
    """Compare a node's output (B, N, E) with what its inputs must give."""
    batch, heads, length, head_size = hashed.value.shape
    found = output.reshape(batch, length, heads, head_size).transpose(0, 2, 1, 3).astype(np.float64)
    exact = unit_rows(sum_of_tables(hashed)) * hashed.keep[:, None, :, None]
    certain = _certain_rows(hashed) & hashed.keep[:, None, :]
    wanted = exact[certain]
    error = float(np.linalg.norm(found[certain] - wanted)) / (float(np.linalg.norm(wanted)) or 1.0)
    shares = [float(signs.mean()) for signs in (hashed.query_doubtful, hashed.key_doubtful)]
    return SampledCheck(
        rows=float(certain.sum() / max(1, hashed.keep.sum() * heads)),
        relative_l2=error,
        doubtful_signs=sum(shares) / 2,
        expected_error=expected_error(hashed, shares[0] / 2, shares[1] / 2),
    )


def unit_rows(rows: Array) -> Array:
    unit: Array = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), SMALLEST_NORM)
    return unit


def sum_of_tables(hashed: Hashed) -> Array:
    """(B, H, N, D): the mean over hashes of the sum of values whose keys have the query's code."""
    query, key = codes_of(hashed.query_signs), codes_of(hashed.key_signs)
    total = np.zeros_like(hashed.value)
    for b, h, values in _heads(hashed):
        for r in range(hashed.num_hash):
            total[b, h] += _table(hashed, key[b, h, :, r], values)[query[b, h, :, r]]
    mean: Array = total / hashed.num_hash
    return mean


def _heads(hashed: Hashed) -> Iterator[tuple[int, int, Array]]:
    """Every (b, h) with its values, zero for padding."""
    for b in range(hashed.value.shape[0]):
        for h in range(hashed.value.shape[1]):
            yield b, h, hashed.value[b, h] * hashed.keep[b][:, None]


def _table(hashed: Hashed, codes: Array, values: Array) -> Array:
    table = np.zeros((1 << hashed.code_length, values.shape[-1]))
    np.add.at(table, codes, values)
    return table


def _certain_rows(hashed: Hashed) -> Array:
    """(B, H, N) bool: queries without a doubtful sign, in no bucket that a key with one may enter or leave."""
    signs, doubtful = hashed.key_signs, hashed.key_doubtful
    query = codes_of(hashed.query_signs)
    certain = np.asarray(~hashed.query_doubtful.any(axis=(-1, -2)))
    for b, h, j, r in np.argwhere(doubtful.any(-1) & hashed.keep[:, None, :, None]):
        settled = ~doubtful[b, h, j, r]
        mask, kept = codes_of(settled), codes_of(signs[b, h, j, r] & settled)
        certain[b, h] &= (query[b, h, :, r] & mask) != kept
    return certain


def flip_rate(one: Hashed, other: Hashed) -> float:
    """Share of the codes of tokens, queries' and keys', that two programs see otherwise."""
    changed = [
        codes_of(ours) != codes_of(theirs)
        for ours, theirs in ((one.query_signs, other.query_signs), (one.key_signs, other.key_signs))
    ]
    keep = np.broadcast_to(one.keep[:, None, :, None], changed[0].shape)
    return float(np.mean([flips[keep].mean() for flips in changed]))


def expected_error(hashed: Hashed, query_signs: float, key_signs: float) -> float:
    """Relative L2 error of the op's output if signs flip at random.

    A query that flips one of its T signs reads the next bucket instead of its own, in one of R tables: the difference
    of the two rows over R. A key that flips one is missed by the queries of its bucket, and met by those of the next.
    The flips are few and independent, so their squares add up.

    Args:
        query_signs, key_signs: chance that one sign of a query, of a key, flips.
    Returns:
        Root mean square over rows, each relative to its own norm; 0 where no row has one.
    """
    query, key = codes_of(hashed.query_signs), codes_of(hashed.key_signs)
    mean = sum_of_tables(hashed)
    norms = (mean**2).sum(-1)
    total, rows = 0.0, 0
    for b, h, values in _heads(hashed):
        squared = np.zeros(values.shape[0])
        size = (values**2).sum(-1)
        for r in range(hashed.num_hash):
            table = _table(hashed, key[b, h, :, r], values)
            mass = np.bincount(key[b, h, :, r], weights=size, minlength=len(table))
            for t in range(hashed.code_length):
                here, beyond = query[b, h, :, r], query[b, h, :, r] ^ (1 << t)
                squared += query_signs * ((table[beyond] - table[here]) ** 2).sum(-1)
                squared += key_signs * (mass[here] + mass[beyond])
        seen = hashed.keep[b] & (norms[b, h] > SMALLEST_NORM)
        total += float((squared[seen] / hashed.num_hash**2 / norms[b, h][seen]).sum())
        rows += int(seen.sum())
    return (total / rows) ** 0.5 if rows else 0.0
