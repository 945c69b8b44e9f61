"""lat::GlobalTokenAttention: rows of global tokens attend to the whole sequence, with projections of their own.

Source: Longformer, arXiv 2004.05150, section 3.1;
transformers LongformerSelfAttention._compute_global_attn_output_from_hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds
from lat_export.ops.onnx_types import FLOAT32
from lat_export.ops.token_mask import GLOBAL, MASKED_SCORE, PADDING, GlobalTokens, mask_equals

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def reference(
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor,
    query_weight: torch.Tensor,
    query_bias: torch.Tensor,
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    value_bias: torch.Tensor,
    *,
    num_heads: int,
    scale: float,
) -> torch.Tensor:
    """Full projections and dense scores for every row, then zero where the row is no global token.

    Args:
        hidden_states: (B, N, E) float32, float16, bfloat16 or float64.
        attention_mask: (B, N) int32: 0 padding, 1 token, 2 global token.
        query_weight: (E, E), out x in as torch.nn.Linear has it; likewise key_weight and value_weight.
        query_bias: (E,); likewise value_bias. The key's bias adds a constant to a row's scores: softmax drops it.
        num_heads: H.
        scale: factor on every score, 1 / sqrt(D) in transformers.
    Returns:
        (B, N, E), dtype of hidden_states; rows with mask 0 or 1 are zero.
    """
    import torch

    def heads(weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        rows = torch.nn.functional.linear(hidden_states, weight, bias)
        return rows.view(*rows.shape[:-1], num_heads, -1).transpose(1, 2)

    accumulate = torch.promote_types(hidden_states.dtype, torch.float32)
    query, key, value = heads(query_weight, query_bias), heads(key_weight), heads(value_weight, value_bias)
    scores = (query @ key.transpose(-1, -2)).to(accumulate) * scale
    scores = scores.masked_fill((attention_mask == PADDING)[:, None, None, :], MASKED_SCORE)
    output = (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
    return output.masked_fill((attention_mask != GLOBAL)[..., None], 0)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """Only the G global rows are computed: O(G * N * E) with few globals, O(N * E * (E + G)) with many."""
    hidden, mask, *_ = op.inputs
    nothing = op.Expand(op.CastLike(0.0, hidden), op.Shape(hidden))
    if bounds.max_global == 0:
        return nothing
    tokens = GlobalTokens.find(op, mask, bounds)
    problem = _GlobalRows(op, tokens)
    # Cheap form: 2 H G N E multiply-adds; full projections: 2 N E E + 2 G N E.
    few = op.Less(op.Mul(tokens.count, op.Sub(problem.num_heads, [1])), problem.width)
    if bounds.max_global is None:
        context = op.If(
            op.Squeeze(few, [0]),
            then_branch=op.branch(problem.context_from_hidden_states),
            else_branch=op.branch(problem.context_from_full_projections),
        )
    else:
        context = problem.context_from_hidden_states(op)
    rows = op.reshape(op.Transpose(context, perm=[0, 2, 1, 3]), problem.batch, tokens.count, problem.width)
    rows = op.Where(op.Unsqueeze(tokens.valid, [2]), rows, op.CastLike(0.0, rows))
    return op.ScatterElements(nothing, tokens.spread(op, hidden), rows, axis=1)


class _GlobalRows:
    """Queries of the global rows, and two ways to their context (B, H, G, D), equal in exact arithmetic."""

    def __init__(self, op: BodyBuilder, tokens: GlobalTokens) -> None:
        self.hidden, self.mask, query_weight, query_bias, self.key_weight, self.value_weight, self.value_bias = (
            op.inputs
        )
        # Sizes from the mask where it has them: they are then the same in every layer, and computed once.
        self.batch, self.length, self.width = op.size(self.mask, 0), op.size(self.mask, 1), op.size(self.hidden, 2)
        self.count = tokens.count
        self.num_heads = op.reshape(op.attribute("num_heads"), 1)
        self.head_size = op.Div(self.width, self.num_heads)
        rows = tokens.gather(op, self.hidden)
        rows = op.Add(op.MatMul(rows, op.Transpose(query_weight, perm=[1, 0])), query_bias)
        rows = op.Mul(rows, op.CastLike(op.attribute("scale"), rows))
        self.query = self._heads(op, rows, self.count, perm=[0, 2, 1, 3])  # B, H, G, D

    def _heads(self, op: BodyBuilder, rows: ir.Value, count: ir.Value, perm: list[int]) -> ir.Value:
        """[B, count, E] -> [B, count, H, D], transposed by `perm`."""
        split = op.reshape(rows, self.batch, count, self.num_heads, self.head_size)
        return op.Transpose(split, perm=perm)

    def _weights(self, op: BodyBuilder, scores: ir.Value) -> ir.Value:
        """Scores [B, H, G, N] -> softmax over the tokens that are no padding."""
        padding = op.Unsqueeze(mask_equals(op, self.mask, PADDING), [1, 2])
        scores = op.Where(padding, MASKED_SCORE, op.Cast(scores, to=FLOAT32))
        return op.CastLike(op.Softmax(scores, axis=-1), self.hidden)

    def context_from_hidden_states(self, op: BodyBuilder) -> ir.Value:
        """q . (Wk x) = (Wk^T q) . x and sum p (Wv x + b) = Wv (sum p x) + b: no key or value row is ever made."""
        per_head = (self.num_heads, self.head_size, self.width)
        flat = (self.batch, op.Mul(self.num_heads, self.count), -1)
        split = (self.batch, self.num_heads, self.count, -1)
        probes = op.reshape(op.MatMul(self.query, op.reshape(self.key_weight, *per_head)), *flat)  # B, H*G, E
        scores = op.reshape(op.MatMul(probes, op.Transpose(self.hidden, perm=[0, 2, 1])), *split)
        weights = op.reshape(self._weights(op, scores), *flat)
        mixed = op.reshape(op.MatMul(weights, self.hidden), *split)  # B, H, G, E
        value_weight = op.Transpose(op.reshape(self.value_weight, *per_head), perm=[0, 2, 1])  # H, E, D
        bias = op.reshape(self.value_bias, self.num_heads, 1, self.head_size)
        return op.Add(op.MatMul(mixed, value_weight), bias)

    def context_from_full_projections(self, op: BodyBuilder) -> ir.Value:
        """Keys and values of the whole sequence, as transformers does."""
        key = op.MatMul(self.hidden, op.Transpose(self.key_weight, perm=[1, 0]))
        value = op.Add(op.MatMul(self.hidden, op.Transpose(self.value_weight, perm=[1, 0])), self.value_bias)
        scores = op.MatMul(self.query, self._heads(op, key, self.length, perm=[0, 2, 3, 1]))
        return op.MatMul(self._weights(op, scores), self._heads(op, value, self.length, perm=[0, 2, 1, 3]))


OP = Op(
    name="GlobalTokenAttention",
    inputs=(
        Port("hidden_states", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
        Port("query_weight", ("E", "E")),
        Port("query_bias", ("E",)),
        Port("key_weight", ("E", "E")),
        Port("value_weight", ("E", "E")),
        Port("value_bias", ("E",)),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("scale", float, 0.0),
    ),
    reference=reference,
    body=body,
)
