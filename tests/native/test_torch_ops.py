"""torch.ops.lat.*: outside of `native.kernels()` the references, inside the kernels that onnxruntime runs too."""

from __future__ import annotations

import re
import shutil
import subprocess
from ctypes import sizeof
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from native.op_cases import CASES, torch_op
from native.test_longformer_kernels import between_casts, run, session

from lat_export import native, torch_ops
from lat_export.errors import InputError, MissingError, ShapeError
from lat_export.native import KERNELS
from lat_export.native.abi import DTYPES
from lat_export.ops import OPS

TORCH = {name: getattr(torch, name) for name in DTYPES}
torch_ops.define()


@pytest.fixture(autouse=True)
def _built(plugins: native.Plugins) -> None:
    assert plugins.unusable is None, plugins.unusable


def sample(name: str, dtype: torch.dtype = torch.float32, tokens: int = 40) -> tuple[Any, dict[str, Any]]:
    tensors, options = CASES[name].make(CASES[name].kinds[1], tokens)
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors), options


def test_every_kernel_of_the_plugins_is_here() -> None:
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/kernel_cpu.cpp")}
    assert {OPS[name].stem for name in KERNELS} == folders
    assert set(CASES) == set(KERNELS)
    for name in KERNELS:
        assert (ROOT / "exporter" / "lat_export" / "native" / f"{OPS[name].stem}.py").is_file()


@pytest.mark.parametrize("name", KERNELS)
def test_arguments_lie_in_memory_as_c_has_them(name: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    stem, arguments = OPS[name].stem, KERNELS[name].arguments
    names = [field[0] for field in arguments._fields_]
    printed = "".join(f'printf("%zu\\n", offsetof(lat_{stem}_args, {field}));' for field in names)
    (tmp_path / "layout.c").write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{stem}/kernel.h"\n'
        f'int main(void) {{ {printed} printf("%zu\\n", sizeof(lat_{stem}_args)); return 0; }}\n'
    )
    subprocess.run([compiler, "-I", ROOT / "plugins", "layout.c", "-o", "layout"], cwd=tmp_path, check=True)
    found = subprocess.run([tmp_path / "layout"], capture_output=True, text=True, check=True).stdout.split()
    assert list(map(int, found)) == [*(getattr(arguments, field).offset for field in names), sizeof(arguments)]
    struct = re.search(r"typedef struct[^{]*\{(.*?)\}", (ROOT / "plugins" / stem / "kernel.h").read_text(), re.DOTALL)
    assert struct is not None
    members = re.sub(r"/\*.*?\*/", "", struct[1], flags=re.DOTALL).split(";")
    assert re.findall(r"\w+(?=\s*[,;])", ";".join(members)) == names


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_the_reference_by_the_tolerance_policy(name: str, dtype: str) -> None:
    with native.kernels(threads=1):
        for tensors, options in CASES[name].all(TORCH[dtype]):
            output = torch_op(name)(*tensors, **options)
            assert (output.shape, output.dtype) == (tensors[0].shape, TORCH[dtype])
            CASES[name].check(output, tensors, options)


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("name", KERNELS)
def test_one_kernel_two_doors(name: str, dtype: str, ort_library: Path) -> None:
    """The same bits from torch.ops.lat and from a node in onnxruntime."""
    tensors, options = sample(name, TORCH[dtype])
    opened = session(between_casts(name, options, dtype), ort_library)
    for kind in CASES[name].kinds:
        tensors, _ = CASES[name].make(kind, 40)
        tensors = tuple(tensor.to(TORCH[dtype]) if tensor.is_floating_point() else tensor for tensor in tensors)
        with native.kernels(threads=1):
            ours = torch_op(name)(*tensors, **options)
        assert torch.equal(ours.float(), torch.from_numpy(run(opened, name, tensors)))


def test_an_attribute_with_a_default_may_be_absent(ort_library: Path) -> None:
    """On the CPU TF32 changes nothing: the same bits with and without it, through both doors, and the reference's."""
    tensors, options = sample("BandedWindowAttention")
    references, outputs = [], []
    for given in ({}, {"allow_tf32": 0}, {"allow_tf32": 1}):
        references.append(torch_op("BandedWindowAttention")(*tensors, **options, **given))
        with native.kernels(threads=1):
            outputs.append(torch_op("BandedWindowAttention")(*tensors, **options, **given))
        opened = session(between_casts("BandedWindowAttention", options | given, "float32"), ort_library)
        outputs.append(torch.from_numpy(run(opened, "BandedWindowAttention", tensors)))
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert all(torch.equal(output, references[0]) for output in references)
    assert refused("BandedWindowAttention", tensors, {**options, "allow_tf32": 2}, InputError).got == "2"


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("name", KERNELS)
def test_same_bits_on_1_2_and_8_threads(name: str, dtype: str) -> None:
    tensors, options = sample(name, TORCH[dtype], tokens=320)
    outputs = []
    for threads in (1, 2, 8, 8):
        with native.kernels(threads=threads):
            outputs.append(torch_op(name)(*tensors, **options))
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.parametrize("name", KERNELS)
def test_inputs_may_lie_apart_or_any_other_way(name: str) -> None:
    """Slices of longer rows are read where they are; columns, and rows that run backwards, from a copy."""
    tensors, options = sample(name)
    with native.kernels(threads=1):
        straight = torch_op(name)(*tensors, **options)

    def slice_of_longer_rows(tensor: torch.Tensor) -> torch.Tensor:
        shape = (*tensor.shape[:-1], tensor.shape[-1] * 2 + 3)
        found = torch.full(shape, 7, dtype=tensor.dtype)[..., 2 : 2 + tensor.shape[-1]]
        return found.copy_(tensor)

    def columns(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)

    def every_other_row(tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack((tensor, tensor), dim=1).flatten(0, 1)[::2]

    for way in (slice_of_longer_rows, columns, every_other_row):
        laid_out = tuple(way(tensor) for tensor in tensors)
        with native.kernels(threads=2):
            output = torch_op(name)(*laid_out, **options)
        assert output.is_contiguous()
        assert torch.equal(output, straight), way.__name__
        for before, after in zip(tensors, laid_out, strict=True):
            assert torch.equal(before, after)


def test_one_row_for_all_of_a_batch(plugins: native.Plugins) -> None:
    """`expand` gives a stride of 0."""
    (query, key, value, mask), options = sample("BernoulliExpectation")
    shared = key[:1].expand(*key.shape)
    with native.kernels(threads=1):
        output = torch.ops.lat.bernoulli_expectation(query, shared, value, mask, **options)
        copied = torch.ops.lat.bernoulli_expectation(query, shared.contiguous(), value, mask, **options)
    assert torch.equal(output, copied)


@pytest.mark.parametrize("name", OPS)
def test_outside_it_is_the_reference(name: str) -> None:
    """Bit for bit, also after the kernels were switched on and off, and for ops that have no kernel."""
    tensors, options = sample_of_any(name)
    expected = OPS[name].reference(*tensors, **options)
    with native.kernels():
        pass
    assert torch.equal(torch_op(name)(*tensors, **options), expected)
    native.enable()
    native.disable()
    assert torch.equal(torch_op(name)(*tensors, **options), expected)


def sample_of_any(name: str) -> tuple[Any, dict[str, Any]]:
    """Ops without a kernel take the inputs of those that have one."""
    if name in CASES:
        return sample(name)
    source = {"NystromProbabilities": "NystromAttention"}.get(name, "BandedWindowAttention")
    tensors, options = sample(source)
    given = dict(zip((port.name for port in OPS[source].inputs), tensors, strict=True)) | options
    return (
        tuple(given[port.name] for port in OPS[name].inputs),
        {attribute.name: given[attribute.name] for attribute in OPS[name].attributes},
    )


def test_kernels_may_be_nested_and_end_where_an_error_leaves_them() -> None:
    tensors, options = sample("NystromAttention")
    with native.kernels(threads=2):
        with pytest.raises(RuntimeError, match="on purpose"), native.kernels(threads=1):
            raise RuntimeError("on purpose")
        assert set(torch_ops.instead) == {(device, name) for device in ("cpu", "cuda") for name in OPS}
    assert not torch_ops.instead
    reference = OPS["NystromAttention"].reference(*tensors, **options)
    assert torch.equal(torch.ops.lat.nystrom_attention(*tensors, **options), reference)


def test_what_computes_golden_tensors_stays_the_reference() -> None:
    """Modules of an export call the op, not the operator: a report never compares native with native."""
    tensors, options = sample("NystromAttention")
    expected = OPS["NystromAttention"].reference(*tensors, **options)
    with native.kernels():
        assert torch.equal(OPS["NystromAttention"](*tensors, **options), expected)
        assert not torch.equal(torch.ops.lat.nystrom_attention(*tensors, **options), expected)


@pytest.mark.parametrize("name", KERNELS)
def test_the_operator_is_a_good_citizen_of_the_dispatcher(name: str) -> None:
    """Schema, FakeTensors and dynamic shapes, with the kernels behind it."""
    tensors, options = sample(name)
    checks = ("test_schema", "test_faketensor")
    with native.kernels():
        torch.library.opcheck(getattr(torch.ops.lat, OPS[name].stem).default, tensors, options, test_utils=checks)


@pytest.mark.parametrize("inside", [False, True])
def test_torch_export_sees_one_node_either_way(inside: bool) -> None:
    (query, key, value, mask), options = sample("BandedWindowAttention")

    class Model(torch.nn.Module):
        def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> Any:
            return torch.ops.lat.banded_window_attention(query, key, value, mask, **options)

    dynamic = {name: {1: torch.export.Dim("tokens")} for name in ("query", "key", "value", "mask")}
    if inside:
        native.enable()
    try:
        exported = torch.export.export(Model(), (query, key, value, mask), dynamic_shapes=dynamic)
    finally:
        native.disable()
    calls = [node.target for node in exported.graph.nodes if node.op == "call_function"]
    assert calls == [torch.ops.lat.banded_window_attention.default]
    shorter = tuple(tensor[:, :17] for tensor in (query, key, value, mask))
    with native.kernels(threads=1):
        ran = exported.module()(*shorter)
        assert torch.equal(ran, torch.ops.lat.banded_window_attention(*shorter, **options))


def test_gradients_are_the_references() -> None:
    tensors, options = sample("BernoulliExpectation")
    query = tensors[0].requires_grad_()
    torch.ops.lat.bernoulli_expectation(query, *tensors[1:], **options).square().sum().backward()
    found, query.grad = query.grad, None
    OPS["BernoulliExpectation"].reference(query, *tensors[1:], **options).square().sum().backward()
    assert found is not None
    assert torch.equal(found, query.grad)
    with native.kernels(), pytest.raises(InputError, match="no gradients") as caught:
        torch.ops.lat.bernoulli_expectation(query, *tensors[1:], **options)
    assert caught.value.got == "query"
    assert "no_grad" in str(caught.value.hint)
    with native.kernels(), torch.no_grad():
        assert not torch.ops.lat.bernoulli_expectation(query, *tensors[1:], **options).requires_grad


def refused(name: str, tensors: tuple[torch.Tensor, ...], options: dict[str, Any], kind: type[Exception]) -> Any:
    with native.kernels(threads=2), pytest.raises(kind) as caught:
        torch_op(name)(*tensors, **options)
    return caught.value


def test_bad_calls_say_what_got_expected() -> None:
    (query, key, value, mask), options = sample("BandedWindowAttention")
    name = "BandedWindowAttention"
    wrong = refused(name, (query.double(), key.double(), value.double(), mask), options, ShapeError)
    assert (wrong.got, wrong.expected) == ("float64", "float32, float16, bfloat16")
    assert "PyTorch reference" in str(wrong.hint)
    mixed = refused(name, (query, key.half(), value, mask), options, ShapeError)
    assert (mixed.got, mixed.expected, mixed.where["input"]) == ("float16", "float32", "key")
    assert refused(name, (query, key[:, 1:], value, mask), options, ShapeError).where["input"] == "key"
    assert refused(name, (query, key, value, mask.long()), options, ShapeError).got == "int64"
    assert refused(name, (query, key, value, mask), {**options, "window": 0}, InputError).got == "0"
    assert "num_heads" in str(refused(name, (query, key, value, mask), {**options, "num_heads": 3}, ShapeError))


def test_what_only_the_kernel_sees_is_told_as_its_own() -> None:
    """A token kind that no contract check reads: the status of the C call becomes an error of this project."""
    (query, key, value, mask), options = sample("BandedWindowAttention")
    mask = mask.clone()
    mask[1, 3] = 7
    error = refused("BandedWindowAttention", (query, key, value, mask), options, ShapeError)
    assert error.what == "the kernel of lat::BandedWindowAttention refuses its arguments: attention_mask"
    assert error.got == "7 at [1, 3]"
    assert error.expected == "0 (padding), 1 (token) or 2 (global token)"


def test_an_op_without_a_kernel_says_so() -> None:
    tensors, options = sample_of_any("NystromProbabilities")
    error = refused("NystromProbabilities", tensors, options, MissingError)
    assert "lat::NystromProbabilities has no native kernel" in error.what


def test_without_a_build_the_kernels_cannot_be_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(MissingError, match="native ops are missing"), native.kernels():
        pass
    assert not torch_ops.instead


def test_threads_are_at_least_one() -> None:
    with pytest.raises(InputError, match="needs a thread"), native.kernels(threads=0):
        pass
