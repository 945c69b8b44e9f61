"""lat::NystromAttention: softmax attention through L landmarks, plus a depthwise convolution of the values.

Source: Nystroemformer, arXiv 2102.03902, equations 11 to 15; transformers NystromformerSelfAttention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lat_export.errors import ShapeError
from lat_export.ops.contract import Attribute, Op, Port, StaticBounds, heads_divide_width
from lat_export.ops.heads import Heads
from lat_export.ops.onnx_types import BOOL, FLOAT32
from lat_export.ops.token_mask import MASKED_SCORE, PADDING, mask_equals
from lat_export.ops.torch_heads import scaled_heads, split_heads
from lat_export.ops.value_convolution import convolution, convolution_body, taps_are_odd

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder

# As the paper and transformers have it. Not an attribute: a body cannot repeat a step a variable number of times
# without a loop, which engines do not fuse.
PINV_ITERATIONS = 6


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    conv_weight: torch.Tensor,
    *,
    num_heads: int,
    num_landmarks: int,
    per_head_init: int,
) -> torch.Tensor:
    """The formulas of the paper, one after the other.

    Args:
        query: (B, N, E), not yet scaled; float32, float16, bfloat16 or float64. N is a multiple of L.
        key: (B, N, E).
        value: (B, N, E).
        attention_mask: (B, N) int32: 0 padding, else token.
        conv_weight: (H, K), K odd: taps of the convolution of each head over N; zeros for none.
        num_heads: H.
        num_landmarks: L; landmarks are means of N / L rows, padding included.
        per_head_init: 0: the pseudo-inverse starts from one factor for the whole batch, which couples its rows (what
            transformers does); 1: from one for every head of every row.
    Returns:
        (B, N, E), dtype of query; a padded row is computed like any other.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    q, k, v = scaled_heads(query, num_heads), scaled_heads(key, num_heads), split_heads(value, num_heads)
    q_landmarks, k_landmarks = landmark_means(q, num_landmarks), landmark_means(k, num_landmarks)
    kernel_1 = (q @ k_landmarks.mT).to(accumulate).softmax(-1)
    kernel_2 = (q_landmarks @ k_landmarks.mT).to(accumulate).softmax(-1)
    scores_3 = (q_landmarks @ k.mT).to(accumulate)
    kernel_3 = scores_3.masked_fill((attention_mask == PADDING)[:, None, None, :], MASKED_SCORE).softmax(-1)

    context = kernel_1 @ (pseudo_inverse(kernel_2, per_head_init) @ (kernel_3 @ v.to(accumulate)))
    context = context.to(v.dtype) + convolution(v, conv_weight)
    rows: torch.Tensor = context.transpose(1, 2).flatten(2)
    return rows


def landmark_means(rows: torch.Tensor, num_landmarks: int) -> torch.Tensor:
    """(B, H, N, D) -> (B, H, L, D), means of N / L consecutive rows."""
    batch, heads, _, head_size = rows.shape
    return rows.reshape(batch, heads, num_landmarks, -1, head_size).mean(-2)


def pseudo_inverse(matrix: torch.Tensor, per_head_init: int) -> torch.Tensor:
    """(B, H, L, L) -> its Moore-Penrose inverse, by the iteration of the paper (equation 11)."""
    import torch

    column_sums = matrix.sum(-2, keepdim=True)
    largest = column_sums.amax(-1, keepdim=True) if per_head_init else column_sums.max()
    inverse = matrix.mT / largest
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(PINV_ITERATIONS):
        product = matrix @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = (0.25 * inverse) @ (13 * identity - product @ inner)
    return inverse


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """O(N * L) time and memory; landmarks, softmax and pseudo-inverse in float32."""
    query, key, value, mask, conv_weight = op.inputs
    landmarks = Landmarks(op, Heads(op, query, mask), query, key)
    heads = landmarks.heads
    v = heads.split(value)
    scores_3 = op.Cast(op.MatMul(landmarks.of_query, op.Transpose(landmarks.k, perm=[0, 1, 3, 2])), to=FLOAT32)
    padding = op.Unsqueeze(mask_equals(op, mask, PADDING), [1, 2])
    kernel_3 = op.Softmax(op.Where(padding, MASKED_SCORE, scores_3), axis=-1)  # B, H, L, N

    summary = op.MatMul(landmarks.inverse_of_kernel_2(), op.MatMul(kernel_3, op.Cast(v, to=FLOAT32)))
    context = op.CastLike(op.MatMul(landmarks.kernel_1(), summary), value)
    return heads.join(op.Add(context, convolution_body(op, v, conv_weight)))


class Landmarks:
    """Scaled queries and keys by head, their landmarks, and the two softmaxes between them, for ONNX bodies."""

    def __init__(self, op: BodyBuilder, heads: Heads, query: ir.Value, key: ir.Value) -> None:
        self._op, self.heads = op, heads
        self._count = op.reshape(op.attribute("num_landmarks"), 1)
        scale = op.CastLike(op.Pow(op.Cast(heads.head_size, to=FLOAT32), -0.25), query)
        self.q, self.k = (op.Mul(heads.split(rows), scale) for rows in (query, key))  # B, H, N, D
        self.of_query, of_key = self._means(self.q), self._means(self.k)  # B, H, L, D
        self._of_key_transposed = op.Transpose(of_key, perm=[0, 1, 3, 2])

    def _means(self, rows: ir.Value) -> ir.Value:
        """[B, H, N, D] -> means of N / L consecutive rows, [B, H, L, D]."""
        op, heads = self._op, self.heads
        segments = op.reshape(rows, heads.batch, heads.num_heads, self._count, -1, heads.head_size)
        mean = op.ReduceMean(op.Cast(segments, to=FLOAT32), [3], keepdims=0)
        return op.CastLike(mean, rows)

    def _softmax(self, rows: ir.Value) -> ir.Value:
        op = self._op
        return op.Softmax(op.Cast(op.MatMul(rows, self._of_key_transposed), to=FLOAT32), axis=-1)

    def kernel_1(self) -> ir.Value:
        """Every query against the keys' landmarks, float32 [B, H, N, L]."""
        return self._softmax(self.q)

    def inverse_of_kernel_2(self) -> ir.Value:
        """Inverse of the queries' landmarks against the keys', float32 [B, H, L, L]."""
        return _pseudo_inverse(self._op, self._softmax(self.of_query), self._count)


def _pseudo_inverse(op: BodyBuilder, matrix: ir.Value, landmarks: ir.Value) -> ir.Value:
    """[B, H, L, L] -> its Moore-Penrose inverse by the iteration of the paper, in float32."""
    column_sums = op.ReduceSum(matrix, [2], keepdims=1)
    of_each_head = op.ReduceMax(column_sums, [3], keepdims=1)
    of_the_batch = op.ReduceMax(of_each_head, [0, 1], keepdims=1)
    per_head = op.Cast(op.attribute("per_head_init"), to=BOOL)
    inverse = op.Div(op.Transpose(matrix, perm=[0, 1, 3, 2]), op.Where(per_head, of_each_head, of_the_batch))
    index = op.Range(0, op.Squeeze(landmarks, [0]), 1)
    identity = op.Cast(op.Equal(op.Unsqueeze(index, [0]), op.Unsqueeze(index, [1])), to=FLOAT32)
    seven, fifteen, thirteen = (op.Mul(identity, factor) for factor in (7.0, 15.0, 13.0))
    for _ in range(PINV_ITERATIONS):
        product = op.MatMul(matrix, inverse)
        inner = op.Sub(fifteen, op.MatMul(product, op.Sub(seven, product)))
        inverse = op.MatMul(op.Mul(inverse, 0.25), op.Sub(thirteen, op.MatMul(product, inner)))
    return inverse


def landmarks_divide_length(sizes: dict[str, int], attributes: dict[str, Any]) -> None:
    length, landmarks = sizes["N"], attributes["num_landmarks"]
    if length % landmarks:
        raise ShapeError(
            "sequence length must be a multiple of num_landmarks for lat::NystromAttention",
            got=f"N={length}, L={landmarks}",
            expected=f"N % {landmarks} == 0",
            hint=f"pad to {-(-length // landmarks) * landmarks}",
        )


OP = Op(
    name="NystromAttention",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
        Port("value", ("B", "N", "E")),
        Port("attention_mask", ("B", "N"), ("int32",)),
        Port("conv_weight", ("H", "K")),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("num_landmarks", int, 1, dim="L"),
        Attribute("per_head_init", int, 0, maximum=1),
    ),
    reference=reference,
    body=body,
    rules=(heads_divide_width, landmarks_divide_length, taps_are_odd),
)
