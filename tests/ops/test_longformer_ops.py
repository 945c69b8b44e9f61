"""The two Longformer ops: body against the float64 reference at every length and mask of the style guide."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx_ir.passes.common import InlinePass
from ops.banded_inputs import LENGTHS, MASKS, activations, token_mask
from ops.single_op_model import run, session, single_op_model

from lat_export.errors import InputError, ShapeError
from lat_export.ops import OPS, StaticBounds
from lat_export.ops.window_blocks import SMALLEST_BLOCK

HEADS, WIDTH = 2, 32
SCALE = 0.25
BANDED = "BandedWindowAttention"
GLOBAL = "GlobalTokenAttention"
MAX_GLOBAL = 7


def banded_inputs(kind: str, tokens: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    query, key, value = (activations(batch, tokens, WIDTH, seed=seed) for seed in range(3))
    return query, key, value, token_mask(kind, batch, tokens)


def global_inputs(kind: str, tokens: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    weights = [activations(WIDTH, WIDTH, seed=seed) * 0.1 for seed in range(3)]
    query_bias, value_bias = activations(WIDTH, seed=4), activations(WIDTH, seed=5)
    hidden = activations(batch, tokens, WIDTH, seed=6)
    return hidden, token_mask(kind, batch, tokens), weights[0], query_bias, weights[1], weights[2], value_bias


def attributes(name: str, window: int = 4) -> dict[str, int | float]:
    return {"num_heads": HEADS, "scale": SCALE, **({"window": window} if name == BANDED else {})}


def in_dtype(tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in tensors)


def feeds(name: str, tensors: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    return {port.name: tensor.numpy() for port, tensor in zip(OPS[name].inputs, tensors, strict=True)}


def check_by_policy(name: str, output: np.ndarray, tensors: tuple[torch.Tensor, ...], window: int) -> None:
    """style.md: the error is at most twice that of plain PyTorch in the same dtype, and small in any case."""
    exact = OPS[name].reference(*in_dtype(tensors, torch.float64), **attributes(name, window)).numpy()
    naive = OPS[name].reference(*tensors, **attributes(name, window)).numpy()
    assert np.isfinite(output).all()
    rows = (tensors[3] if name == BANDED else tensors[1]).numpy() == (1 if name == BANDED else 2)
    assert (output[~rows] == 0).all()  # so that the sum of both ops is what Longformer computes
    error = np.abs(output.astype(np.float64) - exact).max()
    naive_error = np.abs(naive.astype(np.float64) - exact).max()
    unit = np.finfo(output.dtype).eps
    assert error <= 2 * naive_error + 16 * unit * np.abs(exact).max()
    assert error <= 256 * unit * max(1.0, np.abs(exact).max())


@pytest.mark.parametrize("bounds", [None, StaticBounds(MAX_GLOBAL)], ids=["any globals", "static bound"])
@pytest.mark.parametrize("window", [1, 4, 16, 40])
def test_banded_body_is_the_reference(window: int, bounds: StaticBounds | None) -> None:
    opened = session(single_op_model(BANDED, attributes(BANDED, window), bounds))
    for tokens in sorted({*LENGTHS, window, window + 1, 2 * window + 1}):
        for kind in MASKS:
            tensors = banded_inputs(kind, tokens)
            if bounds and (tensors[3] == 2).sum(1).max() > MAX_GLOBAL:
                continue
            check_by_policy(BANDED, run(opened, feeds(BANDED, tensors)), tensors, window)


@pytest.mark.parametrize("bounds", [None, StaticBounds(MAX_GLOBAL)], ids=["any globals", "static bound"])
def test_global_body_is_the_reference(bounds: StaticBounds | None) -> None:
    opened = session(single_op_model(GLOBAL, attributes(GLOBAL), bounds))
    for tokens in LENGTHS:
        for kind in MASKS:
            tensors = global_inputs(kind, tokens)
            if bounds and (tensors[1] == 2).sum(1).max() > MAX_GLOBAL:
                continue
            check_by_policy(GLOBAL, run(opened, feeds(GLOBAL, tensors)), tensors, 0)


def intermediates(model: ir.Model, inputs: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Every value of the inlined graph, unoptimised, by the op type that makes it; branches of `If` are not entered."""
    InlinePass()(model)
    values = [value for node in model.graph for value in node.outputs]
    model.graph.outputs.extend(value for value in values if value not in model.graph.outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    arrays = dict(zip((output.name for output in opened.get_outputs()), opened.run(None, inputs), strict=True))
    found: dict[str, list[np.ndarray]] = {}
    for value in values:
        found.setdefault(value.producer().op_type, []).append(arrays[value.name])
    return found


def test_global_body_takes_the_cheaper_of_its_ways() -> None:
    """The condition of its `If` is true for one global and false for many: both branches ran in the tests above."""
    taken = set()
    for kind, tokens in (("first global", 50), ("all global", 97)):
        made = intermediates(single_op_model(GLOBAL, attributes(GLOBAL)), feeds(GLOBAL, global_inputs(kind, tokens)))
        taken.add(bool(made["Less"][0].squeeze()))
    assert taken == {True, False}


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_bound_of_zero_means_no_globals(name: str) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    opened = session(single_op_model(name, attributes(name), StaticBounds(0)))
    for tokens in LENGTHS:
        tensors = make("plain", tokens)
        check_by_policy(name, run(opened, feeds(name, tensors)), tensors, 4)


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_half_precision_keeps_the_policy(name: str) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    opened = session(single_op_model(name, attributes(name), dtype=ir.DataType.FLOAT16))
    for tokens in LENGTHS:
        tensors = in_dtype(make("scattered", tokens), torch.float16)
        check_by_policy(name, run(opened, feeds(name, tensors)), tensors, 4)


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_padded_rows_are_zero(name: str) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    opened = session(single_op_model(name, attributes(name)))
    for kind in ("right padding", "left padding", "one row all padding"):
        tensors = make(kind, 33)
        mask = (tensors[3] if name == BANDED else tensors[1]).numpy()
        assert (run(opened, feeds(name, tensors))[mask == 0] == 0).all()


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_same_inputs_give_the_same_bits(name: str) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    opened = session(single_op_model(name, attributes(name)))
    first = run(opened, feeds(name, make("scattered", 50)))
    run(opened, feeds(name, make("plain", 17)))
    assert (run(opened, feeds(name, make("scattered", 50))) == first).all()


def largest_of_the_banded_body(tokens: int, window: int, kind: str) -> int:
    """Elements of its largest intermediate, for one head of 16 numbers."""
    model = single_op_model(BANDED, {"num_heads": 1, "window": window, "scale": 1.0})
    tensors = tuple(activations(1, tokens, 16, seed=seed) for seed in range(3))
    made = intermediates(model, feeds(BANDED, (*tensors, token_mask(kind, 1, tokens))))
    return max(array.size for arrays in made.values() for array in arrays)


def test_banded_body_is_linear_in_the_length() -> None:
    """N = 4096, W = 256: no intermediate has N x N elements, nor more than N * (3 W + G) a head."""
    tokens, window = 4096, 256
    largest = largest_of_the_banded_body(tokens, window, "first global")
    assert largest <= tokens * (3 * window + 1)
    assert largest * 4 < tokens * tokens


def test_many_globals_in_a_small_window_need_no_more_than_their_scores() -> None:
    """They are repeated for every block, and blocks are never smaller than the floor: N / floor * G * E numbers."""
    tokens = 640
    assert largest_of_the_banded_body(tokens, 1, "all global") <= tokens * (tokens + 3 * SMALLEST_BLOCK)


def test_reference_in_float64_stays_float64() -> None:
    output = OPS[BANDED](*in_dtype(banded_inputs("scattered", 9), torch.float64), **attributes(BANDED))
    assert output.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": torch.zeros(2, 9, 30)}, "size E differs"),
        ({"key": torch.zeros(2, 9, WIDTH, dtype=torch.int64)}, "wrong dtype"),
        ({"value": torch.zeros(9, WIDTH)}, "wrong rank"),
        ({"attention_mask": torch.ones(2, 8, dtype=torch.int32)}, "size N differs"),
        ({"attention_mask": torch.ones(2, 9, dtype=torch.int64)}, "wrong dtype"),
    ],
)
def test_wrong_inputs_are_named(change: dict[str, torch.Tensor], words: str) -> None:
    names = [port.name for port in OPS[BANDED].inputs]
    tensors = dict(zip(names, banded_inputs("plain", 9, batch=2), strict=True)) | change
    with pytest.raises(ShapeError, match=words):
        OPS[BANDED](*tensors.values(), **attributes(BANDED))


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"window": -1},
        {"num_heads": 0},
        {"scale": 0.0},
        {"window": 1.5},
        {"dilation": 2},
        {"allow_tf32": 2},
        {"allow_tf32": -1},
        {"allow_tf32": 1.0},
    ],
)
def test_wrong_attributes_are_named(change: dict[str, int | float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        OPS[BANDED](*banded_inputs("plain", 9), **{**attributes(BANDED), **change})


def test_what_may_be_absent_is_told_apart() -> None:
    """Also where another attribute is missing."""
    with pytest.raises(InputError) as caught:
        OPS[BANDED](*banded_inputs("plain", 9), num_heads=HEADS, window=4)
    assert caught.value.got == "['num_heads', 'window']"
    assert caught.value.expected == "['num_heads', 'scale', 'window'], and allow_tf32 where wanted"


def test_tf32_is_none_of_the_definitions_nor_the_bodys() -> None:
    """A node may have the attribute, also with another value than it has by default, or not."""
    tensors = banded_inputs("scattered", 41)
    expected, ran = OPS[BANDED](*tensors, **attributes(BANDED)), set()
    for given in ({}, {"allow_tf32": 0}, {"allow_tf32": 1}):
        assert torch.equal(OPS[BANDED](*tensors, **attributes(BANDED), **given), expected)
        model = single_op_model(BANDED, attributes(BANDED) | given)
        ran.add(run(session(model), feeds(BANDED, tensors)).tobytes())
        InlinePass()(model)
        ran.add(run(session(model), feeds(BANDED, tensors)).tobytes())
    assert len(ran) == 1


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ShapeError, match="multiple of num_heads"):
        OPS[BANDED](*banded_inputs("plain", 9), **{**attributes(BANDED), "num_heads": 3})
