"""lat::BernoulliExpectation and lat::LshCumulation: bodies, brute force, and statistics of one against the other."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest
import torch
from ops.references import check_by_policy, exact, feeds
from ops.single_op_model import run, session, single_op_model

from lat_export.errors import ShapeError
from lat_export.ops import OPS
from lat_export.ops.lsh_cumulation import codes

EXPECTED, SAMPLED = OPS["BernoulliExpectation"], OPS["LshCumulation"]
HEADS, WIDTH, SIZE = 2, 32, 16
HASHES, BITS = 5, 4
LENGTHS = (1, 2, 5, 17, 33)
PADDINGS = ("none", "right", "one row all padding")


def inputs(tokens: int, padding: str = "none", batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(tokens)
    rows = [torch.randn(batch, tokens, WIDTH, generator=generator) for _ in range(3)]
    mask = torch.ones(batch, tokens, dtype=torch.int32)
    if padding == "right":
        mask[0, tokens // 2 :] = 0
    elif padding == "one row all padding":
        mask[-1] = 0
    return (*rows, mask)


def projection(hashes: int = HASHES, bits: int = BITS, seed: int = 0) -> torch.Tensor:
    return torch.randn(HEADS, SIZE, hashes * bits, generator=torch.Generator().manual_seed(seed))


EXPECTED_ATTRIBUTES = {"num_heads": HEADS, "hash_code_len": BITS}
SAMPLED_ATTRIBUTES = {**EXPECTED_ATTRIBUTES, "num_hash": HASHES}


@pytest.mark.parametrize("name", ["BernoulliExpectation", "LshCumulation"])
def test_body_is_the_reference(name: str) -> None:
    op, attributes = (EXPECTED, EXPECTED_ATTRIBUTES) if name == EXPECTED.name else (SAMPLED, SAMPLED_ATTRIBUTES)
    opened = session(single_op_model(name, attributes))
    for tokens in LENGTHS:
        for padding in PADDINGS:
            tensors = inputs(tokens, padding) + (() if op is EXPECTED else (projection(),))
            output = run(opened, feeds(op, tensors))
            check_by_policy(op, output, tensors, attributes, slack=1e-6)
            assert (output[tensors[3].numpy() == 0] == 0).all()
            assert (run(opened, feeds(op, tensors)) == output).all()


@pytest.mark.parametrize("bits", [1, 9])
def test_expectation_of_any_code_length(bits: int) -> None:
    attributes = {"num_heads": HEADS, "hash_code_len": bits}
    opened = session(single_op_model(EXPECTED.name, attributes))
    tensors = inputs(33)
    assert np.abs(run(opened, feeds(EXPECTED, tensors)) - exact(EXPECTED, tensors, attributes)).max() <= 1e-6


def test_parallel_rows_give_no_nan() -> None:
    """Queries equal to keys: rounding puts some cosines above 1."""
    rows, _, value, mask = inputs(200, batch=2)
    opened = session(single_op_model(EXPECTED.name, EXPECTED_ATTRIBUTES))
    assert np.isfinite(run(opened, feeds(EXPECTED, (rows, rows, value, mask)))).all()
    assert EXPECTED(rows, rows, value, mask, **EXPECTED_ATTRIBUTES).isfinite().all()


def test_zero_rows_give_no_nan() -> None:
    query, key, value, mask = inputs(9)
    zero = torch.zeros_like(query)
    opened = session(single_op_model(EXPECTED.name, EXPECTED_ATTRIBUTES))
    assert np.isfinite(run(opened, feeds(EXPECTED, (zero, key, value, mask)))).all()


@pytest.mark.parametrize("name", ["BernoulliExpectation", "LshCumulation"])
def test_half_precision_storage(name: str) -> None:
    op, attributes = (EXPECTED, EXPECTED_ATTRIBUTES) if name == EXPECTED.name else (SAMPLED, SAMPLED_ATTRIBUTES)
    opened = session(single_op_model(name, attributes, dtype=ir.DataType.FLOAT16))
    # Numbers of few bits: products are exact in float16 too, so that no code flips between the two.
    tensors = tuple((t * 2).round().half() / 2 if t.is_floating_point() else t for t in inputs(33, "right"))
    if op is SAMPLED:
        tensors += ((projection() * 2).round().half() / 2,)
    check_by_policy(op, run(opened, feeds(op, tensors)), tensors, attributes, slack=1e-3)


def test_codes_by_hand() -> None:
    """Bit t of a code is the sign of the projection on column r * T + t, T = 2, R = 2."""
    rows = torch.tensor([[[[1.0, -2.0]]]])
    columns = torch.tensor([[[1.0, 0.0, -1.0, 1.0], [0.0, 1.0, 0.0, -1.0]]])
    # Projections 1, -2, -1, 3: bits 1 0 and 0 1.
    assert codes(rows, columns, 2).tolist() == [[[[1, 2]]]]


def test_tables_are_what_brute_force_finds() -> None:
    """Every pair of tokens that meets in a hash adds the key's value: counted pair by pair, without tables."""
    query, key, value, mask = inputs(33, "right")
    directions = projection()
    output = SAMPLED(query, key, value, mask, directions, **SAMPLED_ATTRIBUTES).numpy()
    for row in range(3):
        for head in range(HEADS):
            part = slice(head * SIZE, (head + 1) * SIZE)
            q, k, v = (t[row, :, part].numpy().astype(np.float64) for t in (query, key, value))
            signs_q, signs_k = (x @ directions[head].numpy().astype(np.float64) > 0 for x in (q, k))
            wanted = np.zeros_like(v)
            for i in range(33):
                for j in range(33):
                    if mask[row, j]:
                        meets = (signs_q[i] == signs_k[j]).reshape(HASHES, BITS).all(1).mean()
                        wanted[i] += meets * v[j]
            norms = np.linalg.norm(wanted, axis=1, keepdims=True)
            wanted = np.where(mask[row, :, None].numpy() > 0, wanted / np.maximum(norms, 1e-12), 0)
            assert np.abs(output[row, :, part] - wanted).max() <= 1e-5


def test_sampling_converges_to_the_expectation() -> None:
    """The mean over S independent hashes is within 6 standard errors of the expectation, everywhere.

    One hash gives each context element a value X with mean mu = sum_j p_ij v_j and some variance s^2, estimated from
    the sample; the mean of S of them is normal with standard error s / sqrt(S) for large S. 6 of those are left with
    probability 2e-9 an element, about 1e-6 over the elements here. Elements with s = 0 must agree exactly.
    """
    query, key, value, mask = inputs(12, batch=1)
    attributes = {"num_heads": HEADS, "num_hash": 1, "hash_code_len": BITS, "normalised": False}
    doubles = [t.double() for t in (query, key, value)]
    samples = torch.stack(
        [SAMPLED.reference(*doubles, mask, projection(1, BITS, seed).double(), **attributes) for seed in range(1, 2001)]
    )
    expectation = EXPECTED.reference(*doubles, mask, **EXPECTED_ATTRIBUTES, normalised=False)
    standard_error = samples.std(0) / math.sqrt(len(samples))
    assert ((samples.mean(0) - expectation).abs() <= 6 * standard_error + 1e-12).all()
    # And the bound bites: the expectation of one bit more is outside of it.
    other = EXPECTED.reference(*doubles, mask, num_heads=HEADS, hash_code_len=BITS + 1, normalised=False)
    assert ((samples.mean(0) - other).abs() > 6 * standard_error).float().mean() > 0.25


def test_wrong_projection_is_refused() -> None:
    tensors = inputs(9)
    with pytest.raises(ShapeError, match="one column a bit"):
        SAMPLED(*tensors, projection(3, 3), **SAMPLED_ATTRIBUTES)
    with pytest.raises(ShapeError, match="one row a number of a head"):
        SAMPLED(*tensors, torch.randn(HEADS, SIZE + 1, HASHES * BITS), **SAMPLED_ATTRIBUTES)


def test_bodies_have_no_operator_that_rtx_refuses() -> None:
    for op in OPS.values():
        kinds: set[str] = set()
        for node in ir.traversal.RecursiveGraphIterator(op.function().graph):
            kinds.add(node.op_type)
            assert "reduction" not in node.attributes
        assert not kinds & {"NonZero", "ScatterND", "Einsum"}
