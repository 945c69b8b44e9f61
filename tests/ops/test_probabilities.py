"""The ops of `--outputs attentions`: BandedWindowProbabilities, GlobalTokenProbabilities, NystromProbabilities."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from ops.banded_inputs import LENGTHS, MASKS, activations, token_mask
from ops.references import check_by_policy, exact, feeds
from ops.single_op_model import run, session, single_op_model

from lat_export.ops import OPS, StaticBounds

HEADS, WIDTH, SCALE, MAX_GLOBAL = 2, 32, 0.25, 7
BANDED, GLOBAL, NYSTROM = "BandedWindowProbabilities", "GlobalTokenProbabilities", "NystromProbabilities"
LANDMARKS = {"num_heads": HEADS, "num_landmarks": 8, "per_head_init": 0}


def attributes(name: str, window: int = 4) -> dict[str, int | float]:
    return {"num_heads": HEADS, "scale": SCALE, **({"window": window} if name == BANDED else {})}


def inputs(kind: str, tokens: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    query, key = (activations(batch, tokens, WIDTH, seed=seed) for seed in range(2))
    return query, key, token_mask(kind, batch, tokens)


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
@pytest.mark.parametrize("window", [1, 4, 16, 40])
def test_body_is_the_reference(name: str, window: int) -> None:
    opened = session(single_op_model(name, attributes(name, window)))
    for tokens in sorted({*LENGTHS, window, window + 1, 2 * window + 1}):
        for kind in MASKS:
            tensors = inputs(kind, tokens)
            reference = exact(OPS[name], tensors, attributes(name, window))
            output = run(opened, feeds(OPS[name], tensors))
            assert output.shape == reference.shape
            assert np.abs(output - reference).max(initial=0.0) <= 2e-6, (tokens, kind)  # each is at most 1


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
@pytest.mark.parametrize("max_global", [0, MAX_GLOBAL])
def test_a_static_bound_adds_columns_of_zeros(name: str, max_global: int) -> None:
    opened = session(single_op_model(name, attributes(name), StaticBounds(max_global)))
    for tokens in LENGTHS:
        for kind in MASKS:
            tensors = inputs(kind, tokens)
            most = int((tensors[2] == 2).sum(1).max())
            if most > max_global:
                continue
            reference = exact(OPS[name], tensors, attributes(name))
            output = run(opened, feeds(OPS[name], tensors))
            added = min(tokens, max(1, max_global)) - most
            assert output.shape[-1] == reference.shape[-1] + added
            assert not output[..., most : most + added].any()
            kept = np.delete(output, slice(most, most + added), axis=-1)
            assert np.abs(kept - reference).max(initial=0.0) <= 2e-6, (tokens, kind)


def test_weights_are_those_of_the_attention() -> None:
    """Mixing the values with them, place by place, gives what BandedWindowAttention gives."""
    window = 4
    for kind in MASKS:
        query, key, mask = inputs(kind, 33)
        value = activations(3, 33, WIDTH, seed=2)
        shared = attributes(BANDED, window)
        tensors = (query.double(), key.double())
        weights = OPS[BANDED](*tensors, mask, **shared)
        context = OPS["BandedWindowAttention"](*tensors, value.double(), mask, **shared)
        most = weights.shape[-1] - 2 * window - 1
        for b, i in np.argwhere(mask.numpy() == 1):
            mixed = torch.zeros(WIDTH, dtype=torch.float64)
            places = [*np.flatnonzero(mask[b].numpy() == 2)]
            places += [-1] * (most - len(places)) + list(range(i - window, i + window + 1))
            for column, j in enumerate(places):
                share = weights[b, :, i, column].repeat_interleave(WIDTH // HEADS)
                if 0 <= j < 33:
                    mixed += share * value[b, j]
                else:
                    assert not share.any()
            torch.testing.assert_close(mixed, context[b, i], rtol=1e-12, atol=1e-12)
        assert not weights[(mask != 1)[:, None].expand(-1, HEADS, -1)].any()


def test_global_weights_are_those_of_the_attention() -> None:
    """With projections that change nothing."""
    identity, nothing = torch.eye(WIDTH, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64)
    for kind in MASKS:
        hidden = activations(3, 33, WIDTH, seed=0).double()
        mask = token_mask(kind, 3, 33)
        weights = OPS[GLOBAL](hidden, hidden, mask, **attributes(GLOBAL))
        context = OPS["GlobalTokenAttention"](
            hidden, mask, identity, nothing, identity, identity, nothing, **attributes(GLOBAL)
        )
        for b in range(3):
            for column, i in enumerate(np.flatnonzero(mask[b].numpy() == 2)):
                shares = weights[b, :, :, column].repeat_interleave(WIDTH // HEADS, dim=0)  # E, N
                torch.testing.assert_close((shares.T * hidden[b]).sum(0), context[b, i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("per_head_init", [0, 1])
def test_nystrom_body_is_the_reference(per_head_init: int) -> None:
    options = {**LANDMARKS, "per_head_init": per_head_init}
    opened = session(single_op_model(NYSTROM, options))
    for tokens in (8, 16, 40, 96):
        tensors = inputs("plain", tokens)[:2]
        output = run(opened, feeds(OPS[NYSTROM], tensors))
        assert output.shape == (3, HEADS, tokens, 8)
        check_by_policy(OPS[NYSTROM], output, tensors, options, slack=2e-6)


def test_nystrom_weights_are_those_of_the_attention() -> None:
    """Where N = L every row is its own landmark: weights times softmax(q k) times v is the whole attention."""
    query, key, mask = inputs("plain", 8)
    value = activations(3, 8, WIDTH, seed=2).double()
    weights = OPS[NYSTROM](query.double(), key.double(), **LANDMARKS)
    heads = [rows.double().view(3, 8, HEADS, -1).transpose(1, 2) for rows in (query, key, value)]
    kernel_3 = (heads[0] @ heads[1].mT * heads[0].shape[-1] ** -0.5).softmax(-1)
    taps = torch.zeros(HEADS, 1, dtype=torch.float64)
    context = OPS["NystromAttention"](query.double(), key.double(), value, mask, taps, **LANDMARKS)
    mixed = (weights @ (kernel_3 @ heads[2])).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, context, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_half_precision(name: str) -> None:
    opened = session(single_op_model(name, attributes(name), dtype=ir.DataType.FLOAT16))
    for tokens in LENGTHS:
        query, key, mask = inputs("scattered", tokens)
        tensors = (query.half(), key.half(), mask)
        output = run(opened, feeds(OPS[name], tensors))
        assert np.abs(output - exact(OPS[name], tensors, attributes(name))).max() <= 2e-2
