"""lat::NystromProbabilities: the weights with which NystromAttention mixes the landmarks' summaries of the values.

Only for models that are asked for `attentions`: standard ops, beside the attention's own.
Source: transformers NystromformerSelfAttention, `attention_probs` of its landmark branch. They are no probabilities in
the strict sense: the pseudo-inverse makes some of them negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.ops.contract import Attribute, Op, Port, StaticBounds, heads_divide_width
from lat_export.ops.heads import Heads
from lat_export.ops.nystrom_attention import (
    Landmarks,
    landmark_means,
    landmarks_divide_length,
    pseudo_inverse,
)
from lat_export.ops.torch_heads import scaled_heads

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from lat_export.ops.body import BodyBuilder


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    num_heads: int,
    num_landmarks: int,
    per_head_init: int,
) -> torch.Tensor:
    """The formulas of the paper.

    Args:
        query: (B, N, E), not yet scaled; float32, float16, bfloat16 or float64. N is a multiple of L.
        key: (B, N, E).
        num_heads: H.
        num_landmarks: L.
        per_head_init: as in NystromAttention.
    Returns:
        (B, H, N, L), dtype of query.
    """
    import torch

    accumulate = torch.promote_types(query.dtype, torch.float32)
    q, k = scaled_heads(query, num_heads), scaled_heads(key, num_heads)
    q_landmarks, k_landmarks = landmark_means(q, num_landmarks), landmark_means(k, num_landmarks)
    kernel_1 = (q @ k_landmarks.mT).to(accumulate).softmax(-1)
    kernel_2 = (q_landmarks @ k_landmarks.mT).to(accumulate).softmax(-1)
    return (kernel_1 @ pseudo_inverse(kernel_2, per_head_init)).to(query.dtype)


def body(op: BodyBuilder, bounds: StaticBounds) -> ir.Value:
    """O(N * L)."""
    query, key = op.inputs
    landmarks = Landmarks(op, Heads(op, query, query), query, key)
    return op.CastLike(op.MatMul(landmarks.kernel_1(), landmarks.inverse_of_kernel_2()), query)


OP = Op(
    name="NystromProbabilities",
    inputs=(
        Port("query", ("B", "N", "E")),
        Port("key", ("B", "N", "E")),
    ),
    attributes=(
        Attribute("num_heads", int, 1, dim="H"),
        Attribute("num_landmarks", int, 1, dim="L"),
        Attribute("per_head_init", int, 0, maximum=1),
    ),
    reference=reference,
    body=body,
    rules=(heads_divide_width, landmarks_divide_length),
    output_dims=("B", "H", "N", "L"),
)
