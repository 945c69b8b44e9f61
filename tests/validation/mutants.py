"""The table of mutants: graphs that are wrong in one way each, and the bundle that each is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_mutation as m
from onnx_mutation import END, Mutation, Pick, Write, edited, input_changed, linear, nth, on_part, output_changed

Array = np.ndarray[Any, Any]
Bundle = tuple[str, str]  # family and task; SAMPLED is not among the goldens

LF_QA, LF_CLS = ("longformer", "question-answering"), ("longformer", "text-classification")
NY_TOK, NY_MC = ("nystromformer", "token-classification"), ("nystromformer", "multiple-choice")
YO_MLM, YO_FE = ("yoso", "fill-mask"), ("yoso", "feature-extraction")
# A small YOSO that samples, of which no bias is zero and no gamma is one.
SAMPLED = ("yoso", "sampled")
SAMPLED_CONFIG = {"use_expectation": False, "hash_code_len": 5, "num_hash": 6, "use_fast_hash": False}

F32, I32, I64 = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64
HEAD_SIZE = 16
ZEROED = edited(np.zeros_like)
# What a token mask (0 padding, 1 token, 2 global) goes through.
PADDING_KEPT, NO_GLOBAL, ALL_PADDING = m.applied("Max", 1, I32), m.applied("Min", 1, I32), m.applied("Min", 0, I32)


@dataclass(frozen=True)
class Mutant:
    """
    Attributes:
        margin: how many tolerances it must be off at least; less than the usual only with a reason.
        reason: why it is off by less, or why it passes.
    """

    what: str
    bundle: Bundle
    mutation: Mutation
    margin: float = 10.0
    reason: str = ""

    def __str__(self) -> str:
        return f"{'-'.join(self.bundle)}: {self.what}"


def norm(index: int) -> Pick:
    """LayerNormalization 0 of the embeddings, then two a layer."""
    return nth("LayerNormalization", index)


def times(factor: float | list[float]) -> Write:
    return m.applied("Mul", factor, F32)


def element(index: tuple[int, ...], edit: Callable[[float], float]) -> Write:
    """One number of an initializer."""

    def change(array: Array) -> Array:
        array[index] = edit(array[index])
        return array

    return edited(change)


def slightly_more(old: float) -> float:
    return old + 0.01


def nothing(_: float) -> float:
    return 0.0


def heads_exchanged(array: Array) -> Array:
    return array[::-1]


def first_head(factor: float) -> list[float]:
    """(E,) factors of which those of the first head differ."""
    return [factor] * HEAD_SIZE + [1.0] * HEAD_SIZE


def code_shorter(projection: Array) -> Array:
    """(H, D, R*T) without the last bit of every hash."""
    heads, size, _ = projection.shape
    bits = SAMPLED_CONFIG["hash_code_len"]
    return projection.reshape(heads, size, -1, bits)[..., :-1].reshape(heads, size, -1)


def bits_of_two_hashes_exchanged(projection: Array) -> Array:
    columns = np.arange(projection.shape[-1])
    columns[[0, SAMPLED_CONFIG["hash_code_len"]]] = columns[[SAMPLED_CONFIG["hash_code_len"], 0]]
    return projection[..., columns]


def longformer_mask(op: str, layer: int, write: Write) -> Mutation:
    return input_changed(nth(op, layer), {"BandedWindowAttention": 3, "GlobalTokenAttention": 1}[op], write)


def globals_local(layer: int) -> Mutation:
    """One layer without global attention: its masks have no 2, so what were global rows are those of the window."""
    return m.together(
        longformer_mask("BandedWindowAttention", layer, NO_GLOBAL),
        longformer_mask("GlobalTokenAttention", layer, NO_GLOBAL),
    )


def window_weight_for_global_rows(layer: int) -> Mutation:
    """The query weight of the global rows is that of the others; a MatMul has it transposed."""

    def change(model: ir.Model) -> None:
        weight = linear(layer, "query")(model).inputs[1].const_value.numpy()
        input_changed(nth(GLOBAL, layer), 2, edited(lambda _: weight.T))(model)

    return change


def unmasked(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
    """What was multiplied by the mask."""
    return value.producer().inputs[0]


def padded_globals_are_tokens(model: ir.Model) -> None:
    """The two masks added, not multiplied: 1 where padding is marked global."""
    masks = [value for value in model.graph.inputs if value.name != "input_ids"]
    output_changed(nth("Mul"), lambda _, graph, before: m.added("Add", masks, graph, before))(model)


def one_row_more(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
    """(B, N, ...) with the last row twice, as if padding was left in."""
    return m.added("Concat", [value, m.sliced(value, 1, -1, END, graph, before)], graph, before, axis=1)


BANDED, GLOBAL = "BandedWindowAttention", "GlobalTokenAttention"
LONGFORMER = (
    # windows
    Mutant("window one wider in layer 0", LF_QA, m.window_changed(0, +1)),
    Mutant("window one narrower in layer 0", LF_QA, m.window_changed(0, -1)),
    Mutant("window one wider in the widest layer", LF_QA, m.window_changed(1, +1)),
    Mutant("window one narrower in the last layer", LF_CLS, m.window_changed(2, -1)),
    Mutant("windows of two layers exchanged", LF_CLS, m.attribute_exchanged(nth(BANDED, 1), nth(BANDED, 2), "window")),
    Mutant("edge of the window left out in the body", LF_CLS, m.body_changed(BANDED, "LessOrEqual", "Less")),
    # scale
    Mutant("scale 1 % larger", LF_QA, m.scale_changed(2, 1.01)),
    Mutant("scale 0.1 % larger in global rows", LF_QA, m.scale_changed(1, 1.001, GLOBAL)),
    Mutant("scale of one head 1 % larger", LF_QA, input_changed(nth(BANDED, 0), 0, times(first_head(1.01)))),
    Mutant("scale as for another head size", LF_CLS, m.scale_changed(0, 2**-0.5)),
    # masks
    Mutant("padding ignored", LF_QA, m.mask_changed("Max", 1)),
    Mutant("padding ignored in one layer's window", LF_CLS, longformer_mask(BANDED, 1, PADDING_KEPT)),
    Mutant("padding a token in one layer's global rows", LF_QA, longformer_mask(GLOBAL, 2, PADDING_KEPT)),
    Mutant("last token taken for padding", LF_QA, longformer_mask(BANDED, 0, on_part(1, -1, END, ALL_PADDING))),
    Mutant("mask of the other row of the batch", LF_QA, longformer_mask(BANDED, 0, m.reversed_along(0))),
    Mutant(
        "mask right up to 64 tokens only",
        LF_QA,
        longformer_mask(BANDED, 0, on_part(1, 64, END, ALL_PADDING)),
    ),
    # globals
    Mutant("globals ignored", LF_QA, m.mask_changed("Min", 1)),
    Mutant("last token never global", LF_QA, m.last_global_dropped()),
    Mutant("globals local in one layer", LF_QA, globals_local(1)),
    Mutant("globals local in the first layer", LF_CLS, globals_local(0)),
    Mutant("global rows lost in one layer", LF_QA, m.globals_in_one_layer_local(1)),
    Mutant("global key and value weights exchanged", LF_QA, m.weights_swapped(0)),
    Mutant(
        "global query and key weights exchanged", LF_CLS, m.inputs_exchanged((nth(GLOBAL, 1), 2), (nth(GLOBAL, 1), 4))
    ),
    Mutant("global query bias dropped", LF_QA, input_changed(nth(GLOBAL, 1), 3, ZEROED)),
    Mutant("global value bias of another layer", LF_QA, m.inputs_exchanged((nth(GLOBAL, 0), 6), (nth(GLOBAL, 1), 6))),
    Mutant("global rows projected with the window's query", LF_QA, window_weight_for_global_rows(2)),
    Mutant("as many globals as the row with the fewest", LF_QA, m.body_changed(GLOBAL, "ReduceMax", "ReduceMin")),
    # the rest of the model
    Mutant("position off by one", LF_QA, input_changed(m.embedding("position"), 1, m.applied("Add", 1, I64))),
    Mutant("token type embedding dropped", LF_QA, output_changed(m.embedding("token_type"), times(0.0))),
    Mutant("layer skipped", LF_CLS, m.output_bypassed(norm(4), norm(2))),
    Mutant(
        "residual taken from before the attention",
        LF_QA,
        m.input_from(m.before(norm(4)), 1, norm(2)),
    ),
    Mutant("Gelu approximated by tanh", LF_QA, m.attribute_set(nth("Gelu", 1), "approximate", "tanh")),
    Mutant("LayerNorm epsilon 1e-3", LF_QA, m.attribute_set(norm(3), "epsilon", 1e-3)),
    Mutant("query bias dropped", LF_QA, input_changed(m.bias_of(1, "query"), 1, ZEROED)),
    Mutant("start and end exchanged", LF_QA, m.output_names_exchanged("start_logits", "end_logits")),
    Mutant("end logits 0.1 % smaller", LF_QA, output_changed(nth("Squeeze", 1), times(0.999))),
    Mutant("start logits written out column by column", LF_QA, output_changed(nth("Squeeze", 0), m.rows_interleaved)),
    Mutant("rows of the batch reversed", LF_CLS, output_changed(nth("Gemm", 1), m.reversed_along(0))),
    Mutant("classified by the last token", LF_CLS, input_changed(norm(6), 0, m.rolled_rows(1))),
    Mutant("one row more", LF_QA, output_changed(nth("Squeeze", 1), one_row_more)),
    Mutant("NaN at the last token", LF_QA, output_changed(nth("Squeeze", 1), on_part(1, -1, END, times(float("nan"))))),
)

NYSTROM = "NystromAttention"
NYSTROMFORMER = (
    Mutant("half the landmarks", NY_TOK, m.attribute_changed(NYSTROM, "num_landmarks", 4)),
    Mutant("queries' landmarks moved by one row", NY_TOK, m.input_replaced(NYSTROM, 0, m.rolled_rows(1))),
    Mutant("keys moved by one row", NY_MC, m.input_replaced(NYSTROM, 1, m.rolled_rows(1))),
    Mutant("inverse starts per head", NY_TOK, m.attribute_changed(NYSTROM, "per_head_init", 1)),
    Mutant("one tap of the convolution dropped", NY_TOK, m.input_replaced(NYSTROM, 4, element((1, 0), nothing))),
    Mutant("convolution reversed", NY_MC, m.input_replaced(NYSTROM, 4, edited(lambda taps: taps[:, ::-1]))),
    Mutant("convolutions of two heads exchanged", NY_TOK, m.input_replaced(NYSTROM, 4, edited(heads_exchanged))),
    Mutant("convolution dropped", NY_MC, m.input_replaced(NYSTROM, 4, ZEROED)),
    Mutant("padding ignored in one layer", NY_TOK, m.input_replaced(NYSTROM, 3, PADDING_KEPT)),
    Mutant("scale 1 % larger", NY_MC, m.input_replaced(NYSTROM, 0, times(1.01))),
    Mutant("position off by one", NY_TOK, input_changed(m.embedding("position"), 1, m.applied("Sub", 1, I64))),
    Mutant("the other token type", NY_TOK, input_changed(m.embedding("token_type"), 1, m.applied("Add", 1, I64))),
    Mutant(
        "float16 activations in one layer", NY_TOK, output_changed(nth(NYSTROM, 1), m.rounded_to(ir.DataType.FLOAT16))
    ),
    Mutant("bfloat16 weight", NY_TOK, input_changed(linear(2, "down"), 1, m.rounded_to(ir.DataType.BFLOAT16))),
    Mutant("one weight off by 0.01", NY_TOK, input_changed(linear(0, "up"), 1, element((3, 5), slightly_more))),
    Mutant("square weight transposed", NY_TOK, input_changed(linear(1, "attention output"), 1, edited(np.transpose))),
    Mutant("choices in reverse order", NY_MC, output_changed(nth("Reshape", -1), m.reversed_along(1))),
    Mutant("labels rotated", NY_TOK, output_changed(nth("Add", -1), m.rolled_rows(2))),
    Mutant("output in float16", NY_TOK, output_changed(nth("Add", -1), m.rounded_to(ir.DataType.FLOAT16))),
)

EXPECTATION, HASHED = "BernoulliExpectation", "LshCumulation"
YOSO = (
    Mutant("one bit more in the code", YO_MLM, m.attribute_changed(EXPECTATION, "hash_code_len", 6)),
    Mutant("one bit less in the code", YO_FE, m.attribute_changed(EXPECTATION, "hash_code_len", 4)),
    Mutant("first token masked", YO_MLM, m.input_replaced(EXPECTATION, 3, on_part(1, 0, 1, ALL_PADDING))),
    Mutant("queries of one head negated", YO_FE, m.input_replaced(EXPECTATION, 0, times(first_head(-1.0)))),
    Mutant("heads one head", YO_FE, m.attribute_changed(EXPECTATION, "num_heads", 1)),
    Mutant(
        "one tap of the convolution dropped",
        YO_MLM,
        input_changed(nth("Conv", 1), 1, element((0, 0, 1, 0), nothing)),
    ),
    Mutant("convolution reversed", YO_FE, input_changed(nth("Conv", 2), 1, edited(lambda taps: taps[:, :, ::-1]))),
    Mutant("convolution of padded values", YO_FE, input_changed(nth("Conv", 0), 0, unmasked)),
    Mutant(
        "LayerNorm gamma 0.1 % larger",
        YO_MLM,
        input_changed(norm(2), 1, edited(lambda g: g * 1.001)),
    ),
    Mutant(
        "one word embedding off by 0.01",
        YO_FE,
        input_changed(m.embedding("word"), 0, element((20, 3), slightly_more)),
    ),
    Mutant("logits of one word off", YO_MLM, output_changed(nth("Add", -1), on_part(2, 100, 101, times(1.01)))),
    Mutant(
        "codes one bit shorter",
        SAMPLED,
        m.together(m.attribute_changed(HASHED, "hash_code_len", 4), m.input_replaced(HASHED, 4, edited(code_shorter))),
    ),
    Mutant(
        "one hash less",
        SAMPLED,
        m.together(
            m.attribute_changed(HASHED, "num_hash", 5), m.input_replaced(HASHED, 4, edited(lambda all_: all_[..., :-5]))
        ),
    ),
    Mutant(
        "one bit of two hashes exchanged", SAMPLED, m.input_replaced(HASHED, 4, edited(bits_of_two_hashes_exchanged))
    ),
    Mutant(
        "one number of a projection negated", SAMPLED, m.input_replaced(HASHED, 4, element((0, 2, 7), lambda old: -old))
    ),
    Mutant("projections of two heads exchanged", SAMPLED, m.input_replaced(HASHED, 4, edited(heads_exchanged))),
    Mutant("one sign of the queries turned", SAMPLED, m.input_replaced(HASHED, 0, times([-1.0] + [1.0] * 31))),
    Mutant("output bias dropped", SAMPLED, input_changed(m.bias_of(0, "down"), 1, ZEROED)),
    Mutant(
        "biases of two projections exchanged",
        SAMPLED,
        m.inputs_exchanged((m.bias_of(0, "query"), 1), (m.bias_of(0, "key"), 1)),
    ),
    Mutant(
        "LayerNorms of two layers exchanged",
        SAMPLED,
        m.inputs_exchanged((norm(1), 1), (norm(3), 1)),
    ),
    Mutant(
        "position 0 never global for the other rows",
        LF_QA,
        m.together(*(longformer_mask(BANDED, layer, on_part(1, 0, 1, NO_GLOBAL)) for layer in range(3))),
    ),
    Mutant(
        "positions end at 200 of 256",
        LF_QA,
        input_changed(m.embedding("position"), 1, m.applied("Min", 200, I64)),
    ),
    Mutant(
        "mask right up to 180 tokens only",
        LF_QA,
        m.together(*(longformer_mask(BANDED, layer, on_part(1, 180, END, ALL_PADDING)) for layer in range(3))),
    ),
    Mutant(
        "padding that is marked global is a token",
        LF_QA,
        padded_globals_are_tokens,
    ),
    Mutant(
        "third row of a batch masked",
        LF_QA,
        m.together(*(longformer_mask(BANDED, layer, on_part(0, 2, END, ALL_PADDING)) for layer in range(3))),
    ),
)

MUTANTS = LONGFORMER + NYSTROMFORMER + YOSO

# Wrong graphs that pass, because no case of the table tells them from right ones. Each is to leave this list for
# `MUTANTS` when the table gets such a case; the reason says which.
SURVIVORS = (
    Mutant(
        "word that no case has",
        YO_FE,
        input_changed(m.embedding("word"), 0, element((15, 3), slightly_more)),
        reason="ids are drawn: 278 of 384 words are read",
    ),
)
