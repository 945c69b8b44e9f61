"""The validator itself: it must fail every wrong artifact, and pass every right one that was only written otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_mutation as m
import pytest
from conftest import GOLDEN
from families.small_checkpoint import small_checkpoint
from onnx_mutation import changed_copy
from onnx_rewrites import REWRITES
from safetensors.numpy import load_file, save_file
from validation.mutants import (
    LF_QA,
    MUTANTS,
    NY_TOK,
    SAMPLED,
    SAMPLED_CONFIG,
    SURVIVORS,
    YO_FE,
    YO_MLM,
    Bundle,
    Mutant,
    one_row_more,
)

from lat_export.families import FAMILIES
from lat_export.pipeline import Exported, export
from lat_export.recipes import make_goldens
from lat_export.targets.contract import BuildPlan, Runner, Subject
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.types import ModelSpec, Signature
from lat_export.validation.check import Judge, check_subject
from lat_export.validation.golden import Golden
from lat_export.validation.report import FAILED, PASSED, SubjectReport

Arrays = dict[str, np.ndarray]
Misbehave = Callable[[Arrays, list[Arrays]], Arrays]
Bundles = Callable[[Bundle], Exported]


@pytest.fixture(scope="module")
def bundles(exported: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    sampled: list[Exported] = []

    def get(bundle: Bundle) -> Exported:
        if bundle != SAMPLED:
            return exported(bundle[1], family=bundle[0])
        if not sampled:
            folder = tmp_path_factory.mktemp("sampled")
            checkpoint = small_checkpoint(folder / "checkpoint", "yoso", **SAMPLED_CONFIG)
            draw_constants(checkpoint / "model.safetensors")
            sampled.append(export(ModelSpec(str(checkpoint), "onnx", folder / "out")))
        return sampled[0]

    return get


def draw_constants(weights: Path) -> None:
    """Biases of zero and gammas of one hide what is dropped or exchanged: they are moved at random."""
    rng = np.random.default_rng(0)
    tensors = load_file(weights)
    for name, array in tensors.items():
        if array.dtype == np.float32 and (array == array.flat[0]).all():
            tensors[name] = array + rng.normal(0, 0.2, array.shape).astype(np.float32)
    save_file(tensors, weights, {"format": "pt"})


def judged(model: Path, made: Exported, golden: Golden | None = None) -> SubjectReport:
    golden = golden or Golden(made.bundle.folder)
    subject = Subject(model.name, lambda: open_runner(model, golden.signature), BuildPlan({}))
    return check_subject(subject, golden, golden.signature, Judge(ops=tuple(made.bundle.manifest["lat_nodes"])))


def margin(report: SubjectReport) -> float:
    """How many tolerances the worst output is off."""
    return max(row.relative_l2 / row.tolerance for row in report.rows)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_fails(
    mutant: Mutant, bundles: Bundles, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made = bundles(mutant.bundle)
    report = judged(changed_copy(made, mutant.mutation, tmp_path), made)
    found = margin(report)
    record_property("margin", found)
    assert report.verdict == FAILED
    assert found >= mutant.margin
    assert mutant.reason or mutant.margin >= Mutant.margin


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, marks=pytest.mark.xfail(reason=mutant.reason, strict=True)) for mutant in SURVIVORS],
    ids=str,
)
def test_a_mutant_should_fail(mutant: Mutant, bundles: Bundles, tmp_path: Path) -> None:
    made = bundles(mutant.bundle)
    report = judged(changed_copy(made, mutant.mutation, tmp_path), made)
    assert report.verdict == FAILED


@pytest.mark.parametrize("bundle", [LF_QA, NY_TOK, YO_FE, SAMPLED], ids="-".join)
@pytest.mark.parametrize("name", REWRITES)
def test_a_harmless_rewrite_passes(name: str, bundle: Bundle, bundles: Bundles, tmp_path: Path) -> None:
    made = bundles(bundle)
    source, target = made.bundle.folder / "model.onnx", tmp_path / "rewritten.onnx"
    REWRITES[name](source, target)
    assert target.read_bytes() != source.read_bytes()
    report = judged(target, made)
    assert report.verdict == PASSED
    assert margin(report) < 1


def test_every_kind_of_mistake_is_in_the_table() -> None:
    assert len(MUTANTS) >= 20
    assert len({str(mutant) for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.bundle[0] for mutant in MUTANTS} == set(FAMILIES)
    assert len({mutant.bundle[1] for mutant in MUTANTS if mutant.bundle != SAMPLED}) >= 4
    assert len(REWRITES) >= 5


def test_goldens_of_another_seed_fail(bundles: Bundles, tmp_path: Path) -> None:
    recipe = json.loads((GOLDEN / "nystromformer" / "recipe.json").read_text())
    recipe |= {"seed": recipe["seed"] + 1, "tasks": {NY_TOK[1]: recipe["tasks"][NY_TOK[1]]}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    make_goldens(tmp_path, tmp_path)
    made = bundles(NY_TOK)
    report = judged(made.bundle.folder / "model.onnx", made, Golden(tmp_path / NY_TOK[1]))
    assert {row.verdict for row in report.rows} == {FAILED}


@contextmanager
def misbehaving(model: Path, signature: Signature, misbehave: Misbehave) -> Iterator[Runner]:
    """A runner whose outputs go through `misbehave(outputs, inputs of all calls so far)`."""
    calls: list[Arrays] = []
    with open_runner(model, signature) as run:

        def wrapped(inputs: Arrays) -> Arrays:
            calls.append(inputs)
            return misbehave(run(inputs), calls)

        yield wrapped


def last_place_moved(outputs: Arrays) -> Arrays:
    """One number of one output, by as little as can be."""
    name, array = next(iter(outputs.items()))
    moved = array.copy()
    moved.flat[-1] = np.nextafter(moved.flat[-1], np.float32(np.inf))
    return {**outputs, name: moved}


def other_bits_when_called_again(outputs: Arrays, calls: list[Arrays]) -> Arrays:
    seen = sum(call is not calls[-1] and same_inputs(call, calls[-1]) for call in calls)
    return last_place_moved(outputs) if seen else outputs


def same_inputs(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def other_bits_after_a_longer_call(outputs: Arrays, calls: list[Arrays]) -> Arrays:
    lengths = [call["input_ids"].shape[1] for call in calls[-2:]]
    return last_place_moved(outputs) if lengths[0] > lengths[-1] else outputs


def other_bits_once_in_fifty_calls(outputs: Arrays, calls: list[Arrays]) -> Arrays:
    return last_place_moved(outputs) if len(calls) == 50 else outputs


def nothing_amiss(outputs: Arrays, calls: list[Arrays]) -> Arrays:
    return outputs


UNSTEADY = [other_bits_when_called_again, other_bits_after_a_longer_call, other_bits_once_in_fifty_calls]


@pytest.mark.parametrize("misbehave", [nothing_amiss, *UNSTEADY], ids=lambda function: function.__name__)
def test_other_bits_on_a_later_run_fail(misbehave: Misbehave, bundles: Bundles) -> None:
    """Within every tolerance: only the repetitions find it."""
    folder = bundles(LF_QA).bundle.folder
    golden = Golden(folder)

    def report(repeat: int) -> SubjectReport:
        opened = lambda: misbehaving(folder / "model.onnx", golden.signature, misbehave)  # noqa: E731
        return check_subject(Subject("x", opened, BuildPlan({})), golden, golden.signature, Judge(repeat=repeat))

    assert report(repeat=1).verdict == PASSED
    found = report(repeat=4)
    assert found.repeated is not None
    assert bool(found.repeated.changed) == (misbehave is not nothing_amiss)
    assert found.verdict == (PASSED if misbehave is nothing_amiss else FAILED)
    assert {row.verdict for row in found.rows} == {PASSED}


NOT_A_NUMBER = m.applied("Mul", float("nan"), ir.DataType.FLOAT)
BEYOND_KEPT_ROWS: dict[str, m.Write] = {
    "NaN between the rows kept": m.on_part(1, 2, 3, NOT_A_NUMBER),
    "infinity between the rows kept": m.on_part(1, 2, 3, m.applied("Div", 0.0, ir.DataType.FLOAT)),
    "one row more": one_row_more,
    "the last row lost": lambda value, graph, before: m.sliced(value, 1, 0, -1, graph, before),
}


@pytest.mark.parametrize("name", BEYOND_KEPT_ROWS)
def test_rows_that_no_golden_keeps_are_looked_at(name: str, bundles: Bundles, tmp_path: Path) -> None:
    """The goldens of the repository keep 32 KiB a case, those of a bundle 16 MiB: what lies between must be finite."""
    made = bundles(YO_MLM)
    golden = Golden(GOLDEN / YO_MLM[0] / YO_MLM[1])
    kept = [case.rows for case in golden if case.rows is not None]
    assert kept
    assert all(2 not in rows for rows in kept)
    mutation = m.output_changed(m.nth("Add", -1), BEYOND_KEPT_ROWS[name])
    report = judged(changed_copy(made, mutation, tmp_path), made, golden)
    assert {row.verdict for row in report.rows if row.rows != "all"} == {FAILED}


def test_another_dtype_fails(bundles: Bundles, tmp_path: Path) -> None:
    """The right numbers as float64: whoever reads them as the signature says reads nonsense."""
    made = bundles(NY_TOK)

    def widened(model: ir.Model) -> None:
        def write(value: ir.Value, graph: ir.Graph, before: ir.Node) -> ir.Value:
            return m.added("Cast", [value], graph, before, to=ir.DataType.DOUBLE.value)

        m.output_changed(m.nth("Add", -1), write)(model)
        model.graph.outputs[0].type = ir.TensorType(ir.DataType.DOUBLE)

    report = judged(changed_copy(made, widened, tmp_path), made)
    assert report.verdict == FAILED
    assert report.rows[0].remark == "dtype float64 instead of float32"
