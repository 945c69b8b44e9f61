"""lat::NystromAttention: body against the float64 reference, reference against a definition written another way."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx_ir.passes.common import InlinePass
from ops.convolved_inputs import HEADS, PADDINGS, WIDTH, inputs
from ops.references import check_by_policy, feeds, in_dtype
from ops.single_op_model import run, session, single_op_model

from lat_export.errors import InputError, ShapeError
from lat_export.ops import OPS

OP = OPS["NystromAttention"]
LANDMARKS = 8


def attributes(per_head_init: int = 0) -> dict[str, int]:
    return {"num_heads": HEADS, "num_landmarks": LANDMARKS, "per_head_init": per_head_init}


@pytest.mark.parametrize("per_head_init", [0, 1])
@pytest.mark.parametrize("taps", [1, 3, 65])
def test_body_is_the_reference(taps: int, per_head_init: int) -> None:
    opened = session(single_op_model(OP.name, attributes(per_head_init)))
    for tokens in (LANDMARKS, 2 * LANDMARKS, 5 * LANDMARKS, 96):
        for padding in PADDINGS:
            tensors = inputs(tokens, padding, taps)
            output = run(opened, feeds(OP, tensors))
            check_by_policy(OP, output, tensors, attributes(per_head_init), slack=1e-5)


def test_half_precision_storage() -> None:
    opened = session(single_op_model(OP.name, attributes(), dtype=ir.DataType.FLOAT16))
    for padding in PADDINGS:
        tensors = in_dtype(inputs(40, padding), torch.float16)
        check_by_policy(OP, run(opened, feeds(OP, tensors)), tensors, attributes(), slack=1e-2)


def test_reference_is_the_formula_with_a_true_inverse() -> None:
    """The formula again, row by row and head by head, with the pseudo-inverse that numpy computes."""
    _, key, value, mask, taps = in_dtype(inputs(24, "right"), torch.float64)
    query = key = key * 2  # each landmark is most like itself: well conditioned, so that six iterations converge
    output = OP(query, key, value, mask, taps, **attributes(1)).numpy()
    size = WIDTH // HEADS

    def softmax(scores: np.ndarray) -> np.ndarray:
        shifted = np.exp(scores - scores.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)

    for row in range(3):
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            q, k, v = (t[row, :, part].numpy() for t in (query, key, value))
            q, k = q / size**0.25, k / size**0.25
            q_means, k_means = (x.reshape(LANDMARKS, -1, size).mean(1) for x in (q, k))
            f2 = softmax(q_means @ k_means.T)
            f3 = softmax(np.where(mask[row].numpy() == 0, -np.inf, q_means @ k.T))
            wanted = softmax(q @ k_means.T) @ np.linalg.pinv(f2) @ f3 @ v
            padded = np.pad(v, ((1, 1), (0, 0)))
            wanted += sum(taps[head, tap].item() * padded[tap : tap + 24] for tap in range(3))
            assert np.linalg.norm(output[row, :, part] - wanted) <= 1e-6 * np.linalg.norm(wanted)


def test_batch_start_couples_rows_and_head_start_does_not() -> None:
    tensors = inputs(40)
    for per_head_init, coupled in ((0, True), (1, False)):
        together = OP(*tensors, **attributes(per_head_init))
        differ = []
        for row in range(3):
            alone = (t[row : row + 1] if port.dims[0] == "B" else t for port, t in zip(OP.inputs, tensors, strict=True))
            single = OP(*alone, **attributes(per_head_init))
            differ.append(not torch.allclose(together[row], single[0], atol=1e-5))
        assert any(differ) == coupled


def test_body_is_linear_in_the_length() -> None:
    """No intermediate has more than N * max(L, E, K) elements a head: none is N x N."""
    tokens = 2048
    model = single_op_model(OP.name, {"num_heads": 1, "num_landmarks": 16, "per_head_init": 0})
    InlinePass()(model)
    for node in model.graph:
        model.graph.outputs.extend(value for value in node.outputs if value not in model.graph.outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    rows = [torch.randn(1, tokens, 16) for _ in range(3)]
    arrays = feeds(OP, (*rows, torch.ones(1, tokens, dtype=torch.int32), torch.randn(1, 3)))
    assert max(array.size for array in opened.run(None, arrays)) <= tokens * 16 + 2 * 16


def test_length_that_is_no_multiple_is_refused_with_a_hint() -> None:
    with pytest.raises(ShapeError, match="multiple of num_landmarks") as caught:
        OP(*inputs(42), **attributes())
    assert "pad to 48" in str(caught.value)


def test_even_taps_are_refused() -> None:
    with pytest.raises(ShapeError, match="odd number of taps"):
        OP(*inputs(40, taps=4), **attributes())


def test_unknown_start_is_refused() -> None:
    with pytest.raises(InputError, match="per_head_init"):
        OP(*inputs(40), **attributes(2))
