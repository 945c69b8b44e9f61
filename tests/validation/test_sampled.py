"""Sampled attention: the exact check of a node, the flip rate, and the error that flips are expected to make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lat_export.families.yoso import draw_projection
from lat_export.ops import OPS
from lat_export.validation.sampled import Hashed, check_node, codes_of, expected_error, flip_rate, unit_rows

HEADS, WIDTH, HASHES, BITS = 2, 32, 16, 6
OP = OPS["LshCumulation"]


def inputs(tokens: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(2, tokens, dtype=torch.int32)
    mask[1, tokens * 2 // 3 :] = 0
    rows = {name: torch.randn(2, tokens, WIDTH, generator=generator) for name in ("query", "key", "value")}
    projection = draw_projection(
        generator, num_heads=HEADS, head_size=WIDTH // HEADS, columns=HASHES * BITS, fast=False
    )
    return {**rows, "attention_mask": mask, "projection": projection}


def output_of(tensors: dict[str, torch.Tensor]) -> np.ndarray:
    return OP(*tensors.values(), num_heads=HEADS, num_hash=HASHES, hash_code_len=BITS).numpy()


def hashed(tensors: dict[str, torch.Tensor]) -> Hashed:
    arrays = [tensor.numpy() for tensor in tensors.values()]
    return Hashed.of_node(*arrays, (HEADS, HASHES))


@pytest.mark.parametrize("tokens", [1, 3, 64, 200])
def test_a_right_node_is_exact_where_no_sign_is_in_doubt(tokens: int) -> None:
    tensors = inputs(tokens)
    found = check_node(hashed(tensors), output_of(tensors))
    assert found.relative_l2 <= 2e-6
    assert found.rows > 0.9
    assert found.doubtful_signs < 1e-4


def test_rows_near_zero_are_left_out_and_only_they() -> None:
    """Signs are put in doubt: one of a query, and one of a key. The rows they reach are the ones that may differ."""
    tensors = inputs(40)
    direction = tensors["projection"][0, :, 5]
    for name, place in (("query", 7), ("key", 11)):
        row = tensors[name][0, place, : WIDTH // HEADS]
        row -= direction * (row @ direction) / (direction @ direction)
    case = hashed(tensors)
    assert case.query_doubtful[0, 0, 7, 0, 5]
    assert case.key_doubtful[0, 0, 11, 0, 5]
    signs = case.key_signs[0, 0, 11, 0]
    buckets = codes_of(signs), codes_of(signs ^ (np.arange(BITS) == 5))
    reached = {7, *np.flatnonzero(np.isin(codes_of(case.query_signs)[0, 0, :, 0], buckets))}
    flipped = output_of(tensors)
    for row in reached:
        flipped[0, row, : WIDTH // HEADS] += 1.0  # whatever stands there, it is not judged
    assert check_node(case, flipped).relative_l2 <= 2e-6
    other = next(row for row in range(40) if row not in reached)
    flipped[0, other, 0] += 0.01
    assert check_node(case, flipped).relative_l2 > 1e-4


@pytest.mark.parametrize("wrong", ["one hash fewer", "one sign turned", "padding as tokens", "keys for queries"])
def test_a_wrong_node_fails_by_a_wide_margin(wrong: str) -> None:
    tensors = inputs(64)
    case = hashed(tensors)
    if wrong == "one hash fewer":
        projection = tensors["projection"][..., : (HASHES - 1) * BITS]
        output = OP.reference(
            *list(tensors.values())[:4], projection, num_heads=HEADS, num_hash=HASHES - 1, hash_code_len=BITS
        ).numpy()
    elif wrong == "one sign turned":
        turned = tensors["projection"].clone()
        turned[:, :, 3] = torch.randn(HEADS, WIDTH // HEADS, generator=torch.Generator().manual_seed(9))
        output = output_of({**tensors, "projection": turned})
    elif wrong == "padding as tokens":
        output = output_of({**tensors, "attention_mask": torch.ones_like(tensors["attention_mask"])})
    else:
        output = output_of({**tensors, "query": tensors["key"]})
    assert check_node(case, output).relative_l2 > 1e-2


def test_flip_rate_of_moved_rows() -> None:
    """Moved by a share s of their norm, a sign flips with probability arctan(s) / pi, a code if one of its T does."""
    tensors = inputs(400)
    generator = torch.Generator().manual_seed(3)
    share = 0.01
    moved = {
        name: tensors[name] + share * torch.randn(tensors[name].shape, generator=generator) for name in ("query", "key")
    }
    found = flip_rate(hashed(tensors), hashed({**tensors, **moved}))
    assert flip_rate(hashed(tensors), hashed(tensors)) == 0
    assert found == pytest.approx(1 - (1 - np.arctan(share) / np.pi) ** BITS, rel=0.1)


@pytest.mark.parametrize("side", ["query", "key"])
def test_expected_error_is_that_of_random_flips(side: str) -> None:
    """Signs are flipped at random, 40 times over: the root mean square of the error is the expected one."""
    case = hashed(inputs(120))
    chance = 2e-3
    rng = np.random.default_rng(0)
    exact = _with_signs(case, case.query_signs, case.key_signs)
    squares = []
    for _ in range(40):
        signs = {"query": case.query_signs, "key": case.key_signs}
        signs[side] = signs[side] ^ (rng.random(signs[side].shape) < chance)
        moved = _with_signs(case, signs["query"], signs["key"])
        norms = (exact**2).sum(-1)
        seen = case.keep[:, None, :] & (norms > 1e-12)
        squares.append((((moved - exact) ** 2).sum(-1)[seen] / norms[seen]).mean())
    measured = float(np.mean(squares)) ** 0.5
    chances = (chance, 0.0) if side == "query" else (0.0, chance)
    assert measured == pytest.approx(expected_error(case, *chances), rel=0.15)


def _with_signs(case: Hashed, query_signs: np.ndarray, key_signs: np.ndarray) -> np.ndarray:
    """Brute force: who shares a code with whom, hash by hash."""
    query, key = codes_of(query_signs), codes_of(key_signs)
    values = case.value * case.keep[:, None, :, None]
    same = (query[:, :, :, None, :] == key[:, :, None, :, :]).mean(-1)  # B, H, N, N
    return np.asarray(same @ values)


def test_tables_are_those_of_brute_force() -> None:
    case = hashed(inputs(50))
    expected = unit_rows(_with_signs(case, case.query_signs, case.key_signs))
    output = expected.transpose(0, 2, 1, 3).reshape(2, 50, WIDTH) * case.keep[..., None]
    assert check_node(case, output).relative_l2 <= 1e-12
    assert check_node(replace(case, num_hash=HASHES), output).rows > 0.9
