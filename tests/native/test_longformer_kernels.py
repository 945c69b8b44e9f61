"""The native Longformer ops: by the tolerance policy at every shape of the ops' case tables, and deterministic."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from native import c_abi
from ops.banded_inputs import LENGTHS, MASKS, activations, token_mask
from ops.references import in_dtype
from ops.single_op_model import single_op_model
from ops.test_longformer_ops import BANDED, GLOBAL, attributes, banded_inputs, global_inputs

from lat_export.ops import OPS

TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ONNX = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
# One row block is 64 rows: both sides of its edge, and of two.
MORE_LENGTHS = (63, 64, 65, 130)
WINDOWS = (1, 4, 16, 40)
FORMS = {"by cost": 0, "hidden states": 1, "full projections": 2}


def check_by_policy(
    name: str, output: torch.Tensor, tensors: tuple[torch.Tensor, ...], options: dict[str, Any]
) -> None:
    """style.md: the error is at most twice that of plain PyTorch in the same dtype, and small in any case."""
    exact = OPS[name].reference(*in_dtype(tensors, torch.float64), **options)
    naive = OPS[name].reference(*tensors, **options).double()
    assert output.isfinite().all()
    mask = tensors[3 if name == BANDED else 1]
    largest, unit = exact.abs().max().item(), torch.finfo(output.dtype).eps
    worst = (output.double() - exact).abs().max().item()
    worst_naive = (naive - exact).abs().max().item()
    assert worst <= 2 * worst_naive + 16 * unit * largest
    assert worst <= 256 * unit * max(1.0, largest)
    rows = 1 if name == BANDED else 2
    assert (output[mask != rows] == 0).all()


def computed(
    library: ctypes.CDLL,
    name: str,
    tensors: tuple[torch.Tensor, ...],
    options: dict[str, Any],
    parallel: c_abi.Parallel | None = None,
    form: int = 0,
) -> torch.Tensor:
    """Through the C ABI; the output is NaN before, so that a row left out shows."""
    output = torch.full_like(tensors[0], float("nan"))
    if name == BANDED:
        arguments: ctypes.Structure = c_abi.banded_arguments(tensors, output, options)
    else:
        arguments = c_abi.global_arguments(tensors, output, options, form)
    assert c_abi.call(library, arguments, parallel) == (c_abi.OK, "")
    return output


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("window", WINDOWS)
def test_banded_kernel_is_the_reference(window: int, dtype: str, kernels: ctypes.CDLL) -> None:
    options = attributes(BANDED, window)
    for tokens in sorted({*LENGTHS, *MORE_LENGTHS, window, window + 1, 2 * window + 1}):
        for kind in MASKS:
            tensors = in_dtype(banded_inputs(kind, tokens), TORCH[dtype])
            check_by_policy(BANDED, computed(kernels, BANDED, tensors, options), tensors, options)


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("form", FORMS)
def test_global_kernel_is_the_reference(form: str, dtype: str, kernels: ctypes.CDLL) -> None:
    options = attributes(GLOBAL)
    for tokens in (*LENGTHS, *MORE_LENGTHS):
        for kind in MASKS:
            tensors = in_dtype(global_inputs(kind, tokens), TORCH[dtype])
            output = computed(kernels, GLOBAL, tensors, options, form=FORMS[form])
            check_by_policy(GLOBAL, output, tensors, options)


@pytest.mark.parametrize(("heads", "head_size"), [(1, 1), (3, 5), (2, 17), (1, 64), (2, 100), (5, 128), (1, 300)])
def test_any_head_size(heads: int, head_size: int, kernels: ctypes.CDLL) -> None:
    width, tokens = heads * head_size, 150
    options = {"num_heads": heads, "scale": head_size**-0.5}
    mask = token_mask("scattered", 2, tokens)
    mask[1, :11] = 0
    tensors = (*(activations(2, tokens, width, seed=seed) for seed in range(3)), mask)
    banded = {**options, "window": 9}
    check_by_policy(BANDED, computed(kernels, BANDED, tensors, banded), tensors, banded)
    weights = [activations(width, width, seed=seed) * (0.5 * width**-0.5) for seed in range(3)]
    bias = activations(width, seed=4)
    tensors = (activations(2, tokens, width, seed=6), mask, weights[0], bias, weights[1], weights[2], bias)
    for form in FORMS.values():
        check_by_policy(GLOBAL, computed(kernels, GLOBAL, tensors, options, form=form), tensors, options)


def test_tf32_is_nothing_to_the_cpu(kernels: ctypes.CDLL) -> None:
    tensors, options = banded_inputs("scattered", 90), attributes(BANDED)
    with_it = computed(kernels, BANDED, tensors, options | {"allow_tf32": 1})
    assert torch.equal(with_it, computed(kernels, BANDED, tensors, options))


def test_rows_may_lie_apart(kernels: ctypes.CDLL) -> None:
    """Query, key and value as one product gives them: slices of rows of 3 E."""
    query, key, value, mask = banded_inputs("scattered", 50)
    joined = torch.cat((query, key, value), dim=-1)
    apart = (*joined.split(query.shape[-1], dim=-1), mask)
    options = attributes(BANDED)
    output = torch.empty_like(query)
    assert c_abi.call(kernels, c_abi.banded_arguments(apart, output, options)) == (c_abi.OK, "")
    assert (output == computed(kernels, BANDED, (query, key, value, mask), options)).all()


def test_a_window_beyond_the_sequence_and_many_globals(kernels: ctypes.CDLL) -> None:
    """Several chunks of keys, so that the running maximum moves."""
    for kind, window in (("plain", 2**31 - 1), ("scattered", 700), ("all global", 3)):
        tensors = banded_inputs(kind, 500, batch=2)
        if kind == "all global":
            tensors[3][:, 100:180] = 1
        options = attributes(BANDED, window)
        check_by_policy(BANDED, computed(kernels, BANDED, tensors, options), tensors, options)


def test_far_scores_stay_finite(kernels: ctypes.CDLL) -> None:
    """Scores of +-1e8: exponentials over- or underflow unless the maximum is taken off first."""
    query, key, value, mask = banded_inputs("first global", 97)
    options = attributes(BANDED, 16)
    output = computed(kernels, BANDED, (query * 1e4, key * 1e4, value, mask), options)
    assert output.isfinite().all()
    assert output.abs().max() <= value.abs().max() * 1.001


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
@pytest.mark.parametrize("dtype", TORCH)
def test_same_bits_in_any_order_on_any_threads(name: str, dtype: str, kernels: ctypes.CDLL) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    tensors = in_dtype(make("scattered", 200), TORCH[dtype])
    options = attributes(name, 16)
    for form in FORMS.values():
        first = computed(kernels, name, tensors, options, form=form)
        for parallel in (c_abi.one_by_one(), c_abi.on_threads(1), c_abi.on_threads(2), c_abi.on_threads(8)):
            assert (computed(kernels, name, tensors, options, parallel, form) == first).all()


def session(
    model: ir.Model, library: Path, threads: int = 1, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(library))
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    proto = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])


def between_casts(name: str, options: dict[str, Any], dtype: str) -> ir.Model:
    """The op in `dtype` under float32 inputs and outputs: numpy knows no bfloat16."""
    model = single_op_model(name, options, dtype=ONNX[dtype])
    if dtype == "float32":
        return model
    (node,) = model.graph
    for index, value in enumerate(list(node.inputs)):
        if value is not None and value.dtype == ONNX[dtype]:
            cast = ir.node("Cast", [value], {"to": int(ONNX[dtype])})
            value.dtype = ir.DataType.FLOAT
            cast.outputs[0].name = f"{value.name}_cast"
            node.replace_input_with(index, cast.outputs[0])
            model.graph.insert_before(node, cast)
    out = ir.node("Cast", [node.outputs[0]], {"to": int(ir.DataType.FLOAT)})
    out.outputs[0].name = "widened"
    out.outputs[0].type, out.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), node.outputs[0].shape
    model.graph.append(out)
    model.graph.outputs[0] = out.outputs[0]
    return model


def run(opened: onnxruntime.InferenceSession, name: str, tensors: tuple[torch.Tensor, ...]) -> np.ndarray:
    feeds = {
        port.name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for port, tensor in zip(OPS[name].inputs, tensors, strict=True)
    }
    return opened.run(None, feeds)[0]


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_op_in_onnxruntime_is_the_reference(name: str, dtype: str, ort_library: Path) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    options = attributes(name)
    opened = session(between_casts(name, options, dtype), ort_library)
    for tokens in (*LENGTHS, *MORE_LENGTHS):
        for kind in MASKS:
            tensors = in_dtype(make(kind, tokens), TORCH[dtype])
            output = torch.from_numpy(run(opened, name, tensors)).to(TORCH[dtype])
            check_by_policy(name, output, tensors, options)


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_same_bits_on_1_2_and_8_threads_of_onnxruntime(name: str, ort_library: Path) -> None:
    make = banded_inputs if name == BANDED else global_inputs
    model = single_op_model(name, attributes(name, 16))
    tensors = make("scattered", 300)
    outputs = []
    for threads in (1, 2, 8, 8):
        outputs.append(run(session(model, ort_library, threads), name, tensors))
    assert all((output == outputs[0]).all() for output in outputs)


@pytest.mark.parametrize("name", [BANDED, GLOBAL])
def test_the_node_runs_native(name: str, ort_library: Path, tmp_path: Path) -> None:
    """onnxruntime's profile names the op itself, and no op of its body."""
    make = banded_inputs if name == BANDED else global_inputs
    opened = session(single_op_model(name, attributes(name)), ort_library, profile=tmp_path / "profile")
    run(opened, name, make("scattered", 50))
    events = json.loads(Path(opened.end_profiling()).read_text())
    ran = {event["args"]["op_name"] for event in events if event.get("cat") == "Node" and "op_name" in event["args"]}
    assert ran == {name}
