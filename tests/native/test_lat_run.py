"""lat_run, the kit's C++ runner, without TensorRT: what it reads, how it compares, and what it says of broken files.

Everything runs with AddressSanitizer and UndefinedBehaviorSanitizer, as a user runs it, in a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kit_files
import numpy as np
import pytest
from kit_files import write_kit, write_outputs
from safetensors.numpy import save_file

from lat_export.validation.compare import difference

HEADERS = [Path(folder) for folder in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if folder]
NOTHING_CRASHED = (0, 1, 2)
RNG = np.random.default_rng(20261121)
REFERENCE = RNG.normal(size=(2, 4, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lat_run")
    return kit_files.build_lat_run(folder, "-DLAT_RUN_ENGINE=OFF", "-DLAT_SANITIZE=address,undefined")


@pytest.fixture
def compare(program: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Exit code and all that was said of `logits`, compared with the golden of a kit made by hand."""

    def call(output: np.ndarray[Any, Any] | None, reference: np.ndarray[Any, Any], **bar: Any) -> tuple[int, str]:
        kit = write_kit(tmp_path / "kit", reference, **bar)
        name = "000.outputs.logits" if output is not None else "000.outputs.something_else"
        file = write_outputs(tmp_path / "outputs.safetensors", {name: reference if output is None else output})
        done = kit_files.lat_run(program, kit, "--outputs", file)
        assert "Sanitizer" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return call


Compare = Callable[..., tuple[int, str]]


def test_the_same_numbers_pass(compare: Compare) -> None:
    code, said = compare(REFERENCE, REFERENCE)
    assert code == 0, said
    assert "passed: 1 comparisons in 1 cases; worst relative L2 0.0e+00 (at most 1e-05)" in said


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("least_norm", [0.0, 100.0])
def test_the_error_is_the_validations_own(dtype: type, least_norm: float, compare: Compare) -> None:
    """A tolerance just above and just below what `lat_export.validation.compare` finds."""
    output = (REFERENCE + 1e-3 * RNG.normal(size=REFERENCE.shape)).astype(dtype)
    found = difference(output, REFERENCE, least_norm).relative_l2
    bar = {"dtypes": [np.dtype(dtype).name], "least_norm": least_norm}
    assert compare(output, REFERENCE, relative_l2=found * 1.000001, **bar)[0] == 0
    code, said = compare(output, REFERENCE, relative_l2=found * 0.999999, **bar)
    assert code == 1
    assert "FAILED: 1 comparisons in 1 cases, 1 failed" in said


def test_bfloat16_outputs_are_read(program: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    kit = write_kit(tmp_path / "kit", REFERENCE, dtypes=["bfloat16"], relative_l2=2e-2)
    exact = torch.from_numpy(REFERENCE)
    for scale, code in ((1.0, 0), (1.05, 1)):
        file = tmp_path / "outputs.safetensors"
        save_torch({"000.outputs.logits": (exact * scale).to(torch.bfloat16)}, file)
        done = kit_files.lat_run(program, kit, "--outputs", file)
        assert done.returncode == code, done.stdout + done.stderr


def test_every_half_is_read_right(compare: Compare) -> None:
    """All 63,488 finite float16, subnormal ones among them, against themselves in float32."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    code, said = compare(every, every.astype(np.float32), dtypes=["float16"], relative_l2=1e-30)
    assert code == 0, said


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_never_pass(wrong: float, compare: Compare) -> None:
    output = REFERENCE.copy()
    output[1, 3, 2] = wrong
    code, said = compare(output, REFERENCE, relative_l2=1e30)
    assert code == 1
    assert "NaN or Inf" in said


def test_nan_in_rows_that_the_golden_does_not_keep_is_found(compare: Compare) -> None:
    output = REFERENCE.copy()
    output[0, 1, 0] = np.nan
    kept = {"rows": [0, 3], "rows_axis": 1, "shape": REFERENCE.shape}
    code, said = compare(output, REFERENCE[:, [0, 3]], **kept)
    assert code == 1
    assert "NaN or Inf" in said


def test_only_the_kept_rows_are_compared(compare: Compare) -> None:
    kept = {"rows": [0, 3], "rows_axis": 1, "shape": REFERENCE.shape}
    output = REFERENCE.copy()
    output[:, 1] += 1
    assert compare(output, REFERENCE[:, [0, 3]], **kept)[0] == 0
    output[:, 3] += 1
    assert compare(output, REFERENCE[:, [0, 3]], **kept)[0] == 1


def test_another_shape_fails(compare: Compare) -> None:
    code, said = compare(REFERENCE[:, :3], REFERENCE)
    assert code == 1
    assert "shape (2, 3, 3) instead of (2, 4, 3)" in said
    code, said = compare(REFERENCE.reshape(4, 2, 3), REFERENCE)
    assert code == 1
    assert "shape (4, 2, 3) instead of (2, 4, 3)" in said


def test_another_dtype_fails(compare: Compare) -> None:
    code, said = compare(REFERENCE.astype(np.float64), REFERENCE)
    assert code == 1
    assert "dtype float64 instead of float32" in said


def test_an_output_that_is_missing_fails(compare: Compare) -> None:
    code, said = compare(None, REFERENCE)
    assert code == 1
    assert "no such output" in said


def test_columns_of_globals_that_the_batch_does_not_have(compare: Compare) -> None:
    """As `lat_export.validation.check.without_empty_globals`: zero columns are left out, others are a wrong shape."""
    golden = RNG.normal(size=(2, 5)).astype(np.float32)  # two columns of globals, three of the window
    output = np.concatenate([golden[:, :2], np.zeros((2, 4), np.float32), golden[:, 2:]], axis=1)
    assert compare(output, golden, first_empty_column=2)[0] == 0
    assert compare(output, golden)[0] == 1
    assert compare(output, golden, first_empty_column=3)[0] == 1
    output[1, 3] = 1e-9
    code, said = compare(output, golden, first_empty_column=2)
    assert code == 1
    assert "shape (2, 9) instead of (2, 5)" in said


def test_outputs_without_numbers_pass(compare: Compare) -> None:
    empty = np.zeros((2, 0), np.float32)
    assert compare(empty, empty)[0] == 0


def test_zero_against_zero_passes_and_against_else_fails(compare: Compare) -> None:
    zero = np.zeros((2, 3), np.float32)
    assert compare(zero, zero)[0] == 0
    assert compare(zero + np.float32(1e-3), zero)[0] == 1


def test_a_golden_that_is_itself_broken_is_bad_input(compare: Compare) -> None:
    """Never a verdict about the engine."""
    broken = REFERENCE.copy()
    broken[0, 0, 0] = np.nan
    code, said = compare(REFERENCE, broken)
    assert (code, "the golden has NaN or Inf" in said) == (2, True)
    code, said = compare(REFERENCE, REFERENCE[:, :2], shape=REFERENCE.shape)
    assert (code, "the golden has shape (2, 2, 3), expected (2, 4, 3)" in said) == (2, True)
    code, said = compare(REFERENCE, REFERENCE[:, [0, 3]], rows=[0, 9], rows_axis=1, shape=REFERENCE.shape)
    assert (code, "no index 9 in axis 1" in said) == (2, True)


def refusal(program: Path, kit: Path, outputs: Path) -> str:
    done = kit_files.lat_run(program, kit, "--outputs", outputs)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert "Sanitizer" not in done.stderr
    return done.stderr


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return write_kit(tmp_path / "kit", REFERENCE)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return write_outputs(tmp_path / "outputs.safetensors", {"000.outputs.logits": REFERENCE})


def test_a_file_cut_at_any_byte_is_refused(program: Path, kit: Path, outputs: Path) -> None:
    whole = outputs.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for length in [*range(8), 8, 9, header // 2, header - 1, header, header + 1, len(whole) - 1]:
        outputs.write_bytes(whole[:length])
        error = refusal(program, kit, outputs)
        assert outputs.name in error
        assert "truncated" in error or "no JSON" in error
    golden = kit / "golden.safetensors"
    golden.write_bytes(golden.read_bytes()[:-1])
    outputs.write_bytes(whole)
    assert "golden.safetensors: truncated" in refusal(program, kit, outputs)


def safetensors_bytes(header: dict[str, Any] | str, data: bytes = b"") -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808 bytes"),
        (struct.pack("<Q", 1000) + b"{}", "truncated: the header is longer than the file"),
        (safetensors_bytes("[]"), "expected an object"),
        (safetensors_bytes("{"), "no JSON"),
        (safetensors_bytes("[" * 100), "nested too deep"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2]}}), 'no "data_offsets"'),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}), "no place in the data"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}), "no place in the data"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}), "no place in the data"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)), "8 bytes for F32"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)), "more data"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, bytes(16)), "leave a gap"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}), "a negative size"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}), "too large"),
        (safetensors_bytes({"x": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 8]}}), "a whole number"),
        (safetensors_bytes({"x": {"dtype": 7, "shape": [2], "data_offsets": [0, 8]}}), "expected a string"),
        (
            safetensors_bytes({"000.outputs.logits": {"dtype": "F8", "shape": [2], "data_offsets": [0, 2]}}, bytes(2)),
            "elements of type F8",
        ),
    ],
)
def test_a_safetensors_file_that_lies_is_refused(
    content: bytes, words: str, program: Path, kit: Path, outputs: Path
) -> None:
    outputs.write_bytes(content)
    assert words in refusal(program, kit, outputs)


def test_two_tensors_in_one_place_are_refused(program: Path, kit: Path, outputs: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    outputs.write_bytes(safetensors_bytes({"x": entry, "y": entry}, bytes(8)))
    assert "overlap" in refusal(program, kit, outputs)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a value"),
        ("{", "expected a name"),
        ('{"schema": 1', "expected }"),
        ('{"schema": 2}', "schema 2, expected 1"),
        ('{"schema": 1, "schema": 1}', "a name twice"),
        ('{"schema": 1} {}', "more after the end"),
        ('{"schema": 0x1}', "no JSON"),
        ('{"schema": NaN}', "expected a value"),
        ('{"schema": 01}', "a leading 0"),
        ('{"schema": 1e}', "expected a value"),
        ('{"schema": tru}', "an unknown word"),
        ('{"schema": "\\x"}', "an unknown escape"),
        ('{"schema": "\\ud800\\u0041"}', "half of a pair"),
        ('{"schema": "\\u12"}', "four hexadecimal digits"),
        ('{"schema": "a\nb"}', "a control character"),
        ('{"schema": "a', "a string without an end"),
        ('{"schema": 1, "inputs": {}}', "expected an array"),
        ('{"schema": 1, "inputs": [], "cases": [{}]}', 'no "name"'),
        ('{"schema": 1, "inputs": [], "cases": [], "left_out": 0}', "nothing can be compared"),
    ],
)
def test_a_broken_kit_json_is_refused(text: str, words: str, program: Path, kit: Path, outputs: Path) -> None:
    (kit / "kit.json").write_text(text)
    error = refusal(program, kit, outputs)
    assert words in error
    assert "kit.json" in error


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"relative_l2": 0}, "no bar"),
        ({"relative_l2": -1e-5}, "no bar"),
        ({"relative_l2": "1e-5"}, "expected a number"),
        ({"least_norm": -1}, "no bar"),
        ({"dtypes": ["float8"]}, "an unknown element type: float8"),
        ({"rows_axis": 3}, "rows_axis is no axis"),
        ({"rows_axis": -1}, "rows_axis is no axis"),
        ({"shape": [2.5]}, "a whole number"),
    ],
)
def test_a_bar_that_is_none_is_refused(
    changed: dict[str, Any], words: str, program: Path, kit: Path, outputs: Path
) -> None:
    facts = json.loads((kit / "kit.json").read_text())
    facts["cases"][0]["outputs"]["logits"].update(changed)
    (kit / "kit.json").write_text(json.dumps(facts))
    assert words in refusal(program, kit, outputs)


def test_missing_files_are_named(program: Path, kit: Path, outputs: Path, tmp_path: Path) -> None:
    assert "nowhere/kit.json" in refusal(program, tmp_path / "nowhere", outputs)
    assert "nowhere.safetensors" in refusal(program, kit, tmp_path / "nowhere.safetensors")
    (kit / "golden.safetensors").unlink()
    assert "golden.safetensors" in refusal(program, kit, outputs)


@pytest.mark.parametrize(
    "arguments", [[], ["kit"], ["kit", "--engine"], ["kit", "other"], ["kit", "--frobnicate"], ["--outputs", "x"]]
)
def test_bad_arguments_show_the_usage(arguments: list[str], program: Path) -> None:
    done = kit_files.lat_run(program, *arguments)
    assert done.returncode == 2
    assert "usage: lat_run KIT --engine FILE" in done.stderr


def test_an_engine_without_tensorrt_is_exit_code_3(program: Path, kit: Path) -> None:
    done = kit_files.lat_run(program, kit, "--engine", "model.engine")
    assert done.returncode == 3
    assert "without TensorRT's headers" in done.stderr


def test_names_of_cases_are_shown_as_they_are(program: Path, kit: Path, outputs: Path) -> None:
    """Escapes, other alphabets and characters beyond 16 bits, as Python's json writes them."""
    facts = json.loads((kit / "kit.json").read_text())
    facts["cases"][0]["name"] = name = 'texts.jsonl "Straße" \\ \u4f60\u597d \U0001f600'
    for ascii_only in (True, False):
        (kit / "kit.json").write_text(json.dumps(facts, ensure_ascii=ascii_only))
        done = kit_files.lat_run(program, kit, "--outputs", outputs)
        assert done.returncode == 0, done.stderr
        assert name in done.stdout


def test_files_with_changed_bytes_never_crash_it(program: Path, kit: Path, outputs: Path) -> None:
    """Drawn at random, the same in every run; the header and kit.json, where a reader goes wrong, are most of it."""
    drawn = random.Random(20261121)
    for file in (outputs, kit / "kit.json", kit / "golden.safetensors"):
        whole = file.read_bytes()
        for _ in range(60):
            spoilt = bytearray(whole)
            for _ in range(drawn.randint(1, 4)):
                spoilt[drawn.randrange(min(len(spoilt), 400))] = drawn.choice(b'\x00\xff{}[]",:0123456789\\uE-')
            file.write_bytes(spoilt)
            done = kit_files.lat_run(program, kit, "--outputs", outputs)
            assert done.returncode in NOTHING_CRASHED, (bytes(spoilt), done.stderr)
            assert "Sanitizer" not in done.stderr, (bytes(spoilt), done.stderr)
        file.write_bytes(whole)
    assert kit_files.lat_run(program, kit, "--outputs", outputs).returncode == 0


@pytest.mark.parametrize("headers", HEADERS or [None], ids=str)
def test_it_compiles_against_tensorrt_and_says_what_is_missing(headers: Path | None, kit: Path, tmp_path: Path) -> None:
    """With real headers; TensorRT is opened at run time, so that it links without. No engine was ever run by it."""
    if headers is None:
        pytest.skip("no TensorRT headers: TENSORRT_INCLUDE_DIR names none")
    if shutil.which("nvcc") is None:
        pytest.skip("needs the CUDA toolkit")
    built = kit_files.build_lat_run(tmp_path / "build", f"-DTENSORRT_INCLUDE_DIR={headers}")
    done = kit_files.lat_run(built, kit, "--engine", "model.engine")
    assert done.returncode == 3, done.stderr
    assert re.search(r"no GPU that CUDA can use|libnvinfer\.so\.1[01]", done.stderr)
    save_file({"000.outputs.logits": REFERENCE}, tmp_path / "outputs.safetensors")
    assert kit_files.lat_run(built, kit, "--outputs", tmp_path / "outputs.safetensors").returncode == 0
