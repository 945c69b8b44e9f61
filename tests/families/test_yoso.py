"""YOSO: expectation and sampling, every option, what transformers does, and what each semantics means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_mutation as wrong
import onnxruntime
import pytest
import torch
import transformers
from families.small_checkpoint import small_checkpoint
from onnx_mutation import Mutation, error_of_mutant
from transformers.models.yoso import modeling_yoso

from lat_export.errors import InputError
from lat_export.families.yoso import draw_projection, masks_of_the_paper
from lat_export.pipeline import Exported, export
from lat_export.stages.load import load
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec, Options
from lat_export.validation.report import PASSED
from lat_export.validation.tolerance import RELATIVE_L2

Export = Callable[..., Exported]
EXPECTED = {"use_expectation": True, "hash_code_len": 5}
SAMPLED = {"use_expectation": False, "hash_code_len": 5, "num_hash": 6, "use_fast_hash": False}


def made(tmp_path: Path, options: Options | None = None, **config: object) -> Exported:
    folder = small_checkpoint(tmp_path / "made", "yoso", **config)
    return export(ModelSpec(str(folder), "onnx", tmp_path / "out", options=options or Options()))


@pytest.mark.parametrize("semantics", ["hf", "paper"])
@pytest.mark.parametrize(
    "config",
    [
        EXPECTED,
        {**EXPECTED, "conv_window": 7},
        {**EXPECTED, "hash_code_len": 1},
        SAMPLED,
        {**SAMPLED, "conv_window": 3},
        {**SAMPLED, "use_fast_hash": True},
        {**SAMPLED, "num_hash": 1, "hash_code_len": 9},
    ],
    ids=str,
)
def test_every_option(config: dict[str, object], semantics: str, tmp_path: Path) -> None:
    exported = made(tmp_path, Options(semantics=semantics), **config)
    assert exported.report is not None
    subject = exported.report.subjects[0]
    assert subject.verdict == PASSED
    reference = "transformers" if config["use_expectation"] and semantics == "hf" else "lat-export reference"
    assert {row.reference for row in subject.rows} == {reference}
    assert list(exported.bundle.manifest["lat_nodes"]) == [
        "BernoulliExpectation" if config["use_expectation"] else "LshCumulation"
    ]


def test_hash_seed_and_number_are_data_of_the_bundle(tmp_path: Path) -> None:
    bundles = [
        made(tmp_path / name, options, **SAMPLED).bundle
        for name, options in (
            ("a", Options(hash_seed=3, num_hash=4)),
            ("b", Options(hash_seed=3, num_hash=4)),
            ("c", Options(hash_seed=4, num_hash=4)),
        )
    ]
    assert bundles[0].manifest["options"] == {"semantics": "hf", "hash_seed": 3, "num_hash": 4}
    digests = [bundle.manifest["files"]["model.onnx"]["sha256"] for bundle in bundles]
    assert digests[0] == digests[1] != digests[2]
    graph = ir.load(bundles[0].folder / "model.onnx").graph
    projections = [node.inputs[4].const_value for node in graph if node.op_type == "LshCumulation"]
    assert [tuple(tensor.shape) for tensor in projections] == [(2, 16, 20)] * 2
    assert not np.array_equal(projections[0].numpy(), projections[1].numpy())  # layers hash differently


def test_even_convolution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="conv_window must be odd"):
        made(tmp_path, **{**EXPECTED, "conv_window": 4})


def test_fast_hash_is_orthogonal_in_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    projection = draw_projection(generator, num_heads=2, head_size=16, columns=40, fast=True)
    assert projection.shape == (2, 16, 40)
    for start in (0, 16):
        block = projection[0, :, start : start + 16]
        assert torch.allclose(block.T @ block, torch.eye(16), atol=1e-5)


def model_of(tmp_path: Path, **config: object) -> transformers.YosoModel:
    return transformers.YosoModel.from_pretrained(small_checkpoint(tmp_path / "made", "yoso", **config)).eval()


def test_trap_transformers_ignores_the_padding_mask(tmp_path: Path) -> None:
    """If this fails, transformers was mended: `--semantics hf` must follow it."""
    model = model_of(tmp_path, **EXPECTED)
    ids, mask = torch.arange(24)[None] + 4, torch.ones(1, 24, dtype=torch.int64)
    mask[0, 15:] = 0
    with torch.no_grad():
        masked, unmasked = model(ids, attention_mask=mask), model(ids)
    assert torch.equal(masked.last_hidden_state, unmasked.last_hidden_state)


def test_paper_semantics_mask_the_padding(tmp_path: Path) -> None:
    bundle = made(tmp_path, Options(semantics="paper"), **EXPECTED, conv_window=3).bundle
    ids = np.arange(24)[None] + 4
    other = np.where(np.arange(24) < 15, ids, 9)
    mask = (np.arange(24) < 15).astype(np.int64)[None]
    with open_runner(bundle.folder / "model.onnx", bundle.signature) as run:
        first, second = (run({"input_ids": a, "attention_mask": mask})["last_hidden_state"] for a in (ids, other))
    assert np.array_equal(first[0, :15], second[0, :15])


def test_trap_hashing_gives_the_query_the_keys_code() -> None:
    query, key = torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    query_code, key_code = modeling_yoso.hashing(query, key, num_hash=3, hash_len=5)
    assert torch.equal(query_code, key_code)


def test_trap_no_sampled_attention_on_a_cpu(tmp_path: Path) -> None:
    model = model_of(tmp_path, **SAMPLED)
    with torch.no_grad(), pytest.raises(AttributeError):
        model(torch.full((1, 9), 5))


@pytest.mark.parametrize(("config", "told"), [(EXPECTED, True), (SAMPLED, False)])
def test_hashes_that_are_not_there_are_told(config: dict[str, Any], told: bool, tmp_path: Path) -> None:
    folder = small_checkpoint(tmp_path / "made", "yoso", **config)
    spec = ModelSpec(str(folder), "onnx", tmp_path / "out", options=Options(num_hash=2, hash_seed=3))
    warnings = load(spec).checkpoint.warnings
    assert any("--num-hash and --hash-seed: of no use" in warning for warning in warnings) == told


def test_trap_parallel_rows_give_nan_in_transformers() -> None:
    """Rounding puts the cosine of parallel rows above 1; the op clips, transformers does not."""
    rows = torch.nn.functional.normalize(torch.randn(1, 200, 48, generator=torch.Generator().manual_seed(0)), dim=-1)
    ones = torch.ones(1, 200)
    context = modeling_yoso.YosoCumulation.apply(ones, ones, rows, rows, rows, {"hash_code_len": 5})
    assert context.isnan().any()


E_OP, S_OP = "BernoulliExpectation", "LshCumulation"
EXPECTED_MUTATIONS: dict[str, Mutation] = {
    "one bit more in the code": wrong.attribute_changed(E_OP, "hash_code_len", 6),
    "keys moved by one row": wrong.input_replaced(E_OP, 1, wrong.rolled_rows(1)),
    "values moved by one row": wrong.input_replaced(E_OP, 2, wrong.rolled_rows(1)),
    "one token masked": wrong.input_replaced(E_OP, 3, wrong.applied("Sub", 1, ir.DataType.INT32)),
}


@pytest.mark.parametrize("name", EXPECTED_MUTATIONS)
def test_a_wrong_expectation_fails_by_a_wide_margin(name: str, exported: Export, tmp_path: Path) -> None:
    before = exported("feature-extraction", family="yoso")
    assert error_of_mutant(before, EXPECTED_MUTATIONS[name], tmp_path) > 100 * RELATIVE_L2["fp32"]


def one_bit_from_another(projection: np.ndarray) -> np.ndarray:
    """The first bit of the first hash is its second one again."""
    projection[:, :, 0] = projection[:, :, 1]
    return projection


SAMPLED_MUTATIONS: dict[str, Mutation] = {
    "one bit of one hash wrong": wrong.input_replaced(S_OP, 4, wrong.edited(one_bit_from_another)),
    "keys moved by one row": wrong.input_replaced(S_OP, 1, wrong.rolled_rows(1)),
    "values moved by one row": wrong.input_replaced(S_OP, 2, wrong.rolled_rows(1)),
    "heads' projections changed": wrong.input_replaced(S_OP, 4, wrong.rolled_rows(0)),
}


@pytest.mark.parametrize("name", SAMPLED_MUTATIONS)
def test_a_wrong_sampling_fails_by_a_wide_margin(name: str, tmp_path: Path) -> None:
    before = made(tmp_path, **SAMPLED)
    assert error_of_mutant(before, SAMPLED_MUTATIONS[name], tmp_path) > 100 * RELATIVE_L2["fp32"]


def test_trap_attentions_of_transformers_are_the_context(tmp_path: Path) -> None:
    loaded = load(ModelSpec(str(small_checkpoint(tmp_path / "made", "yoso")), "onnx", tmp_path))
    ids = torch.randint(4, 60, (2, 17))
    with torch.no_grad():
        found = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True).attentions
    assert [weights.shape for weights in found] == [(2, 17, 32)] * 2


@pytest.mark.parametrize("sampled", [False, True])
def test_attentions_of_the_paper_are_the_weights(sampled: bool, tmp_path: Path) -> None:
    """They mix the values into the context: checked on what the exported graph gives."""
    checkpoint = small_checkpoint(tmp_path / "made", "yoso", use_expectation=not sampled, num_hash=5, hash_code_len=3)
    options = Options(semantics="paper")
    out = tmp_path / "out"
    made = export(ModelSpec(str(checkpoint), "onnx", out, options=options, outputs=("hidden_states", "attentions")))
    assert made.report is not None
    assert made.report.subjects[0].verdict == "passed"
    ids = torch.randint(4, 60, (2, 17))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    weights, states = session.run(
        ["attentions.0", "hidden_states.0"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    )
    assert weights.shape == (2, 2, 17, 17)
    assert not weights[1, :, 12:].any()
    assert not weights[1, :, :, 12:].any()
    loaded = load(ModelSpec(str(checkpoint), "onnx", out, options=options))
    attention = loaded.checkpoint.family.swapped(loaded.model, options).attentions[0]
    with torch.no_grad():
        context = attention(torch.from_numpy(states), masks_of_the_paper(mask))
        value = attention.attention.value(torch.from_numpy(states)).view(2, 17, 2, -1).transpose(1, 2)
    mixed = torch.nn.functional.normalize(torch.from_numpy(weights) @ value, dim=-1)
    expected = context.view(2, 17, 2, -1).transpose(1, 2) * mask[:, None, :, None]
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-5)


def test_right_programs_differ_less_than_the_band_of_flips(tmp_path: Path) -> None:
    """At 400 tokens codes flip between PyTorch and onnxruntime; the golden says by how much outputs may move."""
    folder = small_checkpoint(
        tmp_path / "made",
        "yoso",
        use_expectation=False,
        num_hash=32,
        hash_code_len=8,
        max_position_embeddings=400,
        num_hidden_layers=4,
    )
    made = export(ModelSpec(str(folder), "onnx", tmp_path / "out"))
    assert made.report is not None
    rows = made.report.subjects[0].rows
    assert {row.verdict for row in rows} == {PASSED}
    longest = next(row for row in rows if "N=400" in row.case)
    assert longest.remark == "hash codes may flip"
    assert longest.tolerance < 0.1
    short = [row for row in rows if "N=1 " in row.case or "N=2 " in row.case]
    assert all(row.tolerance == RELATIVE_L2["fp32"] for row in short)
