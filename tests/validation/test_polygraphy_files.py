"""Golden tensors in Polygraphy's own files, with its real command line; each comparison is shown to bite.

All of it in processes of their own: Polygraphy chooses its TensorRT library once, when it is imported.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from conftest import GOLDEN

from lat_export.errors import InputError
from lat_export.pipeline import Exported
from lat_export.revalidation import revalidate
from lat_export.validation.golden import Golden

Export = Callable[..., Exported]
LIKE = GOLDEN / "longformer" / "question-answering"
POLYGRAPHY = Path(sys.executable).with_name("polygraphy")
CASES = len(Golden(LIKE))
TOLERANCES = ("--rtol", "1e-4", "--atol", "1e-4")

pytestmark = pytest.mark.skipif(not POLYGRAPHY.is_file(), reason="polygraphy is not installed")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)


def lat_export(*words: str | Path, code: int = 0, run: Callable[..., Any] = forked.lat_export) -> str:
    """What the command printed, both streams."""
    done = run(*words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def from_polygraphy(folder: Path, like: Path, *more: str | Path, code: int = 0) -> str:
    files = ("--load-inputs", folder / "inputs.json", "--load-outputs", folder / "outputs.json")
    return lat_export("golden", "from-polygraphy", *files, "--like", like, "--out", folder / "golden", *more, code=code)


def compare(bundle: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    files = ("--load-inputs", folder / "inputs.json", "--load-outputs", folder / "outputs.json")
    return run(POLYGRAPHY, "run", bundle / "model.onnx", "--onnxrt", *files, *TOLERANCES)


def edited(path: Path, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], name: str) -> None:
    """The last array called `name` in one of Polygraphy's files, changed; the format is written out here."""
    tree = json.loads(path.read_text())
    places: list[dict[str, Any]] = []

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get(name), dict):
                places.append(node[name].get("values", node[name]))
            for child in node.values():
                visit(child)
        elif isinstance(node, list):
            for child in node:
                visit(child)

    visit(tree)
    array = np.load(io.BytesIO(base64.b64decode(places[-1]["array"])))
    stream = io.BytesIO()
    np.save(stream, change(array))
    places[-1]["array"] = base64.b64encode(stream.getvalue()).decode()
    path.write_text(json.dumps(tree))


@pytest.fixture
def bundle(exported: Export) -> Path:
    return exported("question-answering").bundle.folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden of a small checkpoint as Polygraphy's files."""
    out = tmp_path_factory.mktemp("polygraphy") / "files"
    printed = lat_export("golden", "to-polygraphy", LIKE, out, run=forked.started)
    assert printed.endswith(f"{CASES} cases in inputs.json and outputs.json\n")
    assert sorted(path.name for path in out.iterdir()) == ["inputs.json", "outputs.json"]
    return out


@pytest.fixture
def files(written: Path, tmp_path: Path) -> Path:
    """A copy of them, to change."""
    return Path(shutil.copytree(written, tmp_path / "files"))


def test_polygraphy_finds_our_model_equal_to_our_golden(bundle: Path, files: Path) -> None:
    done = compare(bundle, files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Passed: {CASES}/{CASES} iterations" in done.stdout
    assert "lat-export-golden" in done.stdout


def test_polygraphy_finds_one_changed_number(bundle: Path, files: Path) -> None:
    def moved(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array[0, -1] += 0.01
        return array

    edited(files / "outputs.json", moved, "end_logits")
    done = compare(bundle, files)
    assert done.returncode != 0
    assert f"Passed: {CASES - 1}/{CASES} iterations" in done.stdout


def test_what_polygraphy_computed_validates_a_bundle(bundle: Path, files: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    done = run(
        *(POLYGRAPHY, "run", bundle / "model.onnx", "--onnxrt", "--load-inputs", files / "inputs.json"),
        *("--save-inputs", saved / "inputs.json", "--save-outputs", saved / "outputs.json"),
    )
    assert done.returncode == 0, done.stdout
    assert f"{CASES} cases" in from_polygraphy(saved, bundle)
    golden = Golden(saved / "golden")
    assert {case.computed_by.partition("-N0")[0] for case in golden} == {"onnxrt-runner"}
    assert golden.note_on_reference() is None
    assert "polygraphy" in golden.manifest["origin"]["versions"]
    (subject,) = revalidate(bundle, golden=saved / "golden").subjects
    assert subject.verdict == "passed"
    assert len(subject.rows) == 2 * CASES


def test_validation_against_polygraphys_outputs_bites(bundle: Path, files: Path) -> None:
    edited(files / "outputs.json", lambda array: array * np.float32(1.01), "end_logits")
    from_polygraphy(files, bundle)
    (subject,) = revalidate(bundle, golden=files / "golden").subjects
    assert [row.output for row in subject.rows if row.verdict == "failed"] == ["end_logits"]


def test_there_and_back_is_the_same_golden(files: Path) -> None:
    from_polygraphy(files, LIKE)
    for before, after in zip(Golden(LIKE), Golden(files / "golden"), strict=True):
        assert after.computed_by == "lat-export-golden"
        for group in ("inputs", "outputs"):
            ours, theirs = getattr(before, group), getattr(after, group)
            assert all((ours[name] == theirs[name]).all() and ours[name].dtype == theirs[name].dtype for name in ours)


def test_cases_with_some_positions_are_left_out_and_told(tmp_path: Path) -> None:
    printed = lat_export("golden", "to-polygraphy", GOLDEN / "longformer" / "fill-mask", tmp_path / "files")
    whole = sum(case.rows is None for case in Golden(GOLDEN / "longformer" / "fill-mask"))
    assert 0 < whole < CASES
    assert f"warning: {CASES - whole} of {CASES} cases are left out" in printed
    assert "--all-rows" in printed
    assert f"{whole} cases in" in printed


def test_golden_without_a_whole_case_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lat_export.goldens import make_golden
    from lat_export.types import ModelSpec

    monkeypatch.setattr("lat_export.goldens.KEPT_BYTES_PER_CASE", 64)
    (tmp_path / "t.txt").write_text("The tide went out.")
    checkpoint = GOLDEN / "longformer" / "fill-mask" / "checkpoint"
    make_golden(ModelSpec(str(checkpoint), "onnx", tmp_path / "golden"), tmp_path / "t.txt")
    printed = lat_export("golden", "to-polygraphy", tmp_path / "golden", tmp_path / "files", code=2)
    assert "make the golden tensors with --all-rows" in printed
    assert not (tmp_path / "files").exists()


def array(file: str, name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edited(folder / file, change, name)


def text(file: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / file).write_text(change((folder / file).read_text()))

    return apply


# By what the error says: what was done to the files.
OF_AN_ARRAY = {
    "dtype of an output": ("wrong dtype", array("outputs.json", "end_logits", lambda a: a.astype(np.float64))),
    "size of an output": ("wrong shape", array("outputs.json", "end_logits", lambda a: a[:, :-1])),
    "rank of an output": ("wrong shape", array("outputs.json", "end_logits", lambda a: a[0])),
    "NaN in an output": ("NaN or Inf", array("outputs.json", "end_logits", lambda a: a * np.nan)),
    "dtype of an input": ("wrong dtype", array("inputs.json", "input_ids", lambda a: a.astype(np.int32))),
    "values of an input": ("no meaning", array("inputs.json", "input_ids", lambda a: a + 5000)),
    "rank of an input": ("wrong rank", array("inputs.json", "attention_mask", lambda a: a[0])),
}
OF_A_FILE = {
    "name of an output": (
        "other outputs than the model's",
        text("outputs.json", lambda t: t.replace('"end_logits"', '"ends"')),
    ),
    "name of an input": ("no such input", text("inputs.json", lambda t: t.replace('"input_ids"', '"ids"'))),
    "one input fewer": ("of different runs", text("inputs.json", lambda t: json.dumps(json.loads(t)[:-1]))),
    "cut": ("cannot be read", text("inputs.json", lambda t: t[:100])),
    "no list": ("not Polygraphy's inputs", text("inputs.json", lambda t: "{}")),
    "no results": ("cannot be read", text("outputs.json", lambda t: "[]")),
    "no runs": ("is no RunResults", text("outputs.json", lambda t: json.dumps({**json.loads(t), "lst": [["a"]]}))),
    "no runner": ("not of one runner", text("outputs.json", lambda t: json.dumps({**json.loads(t), "lst": []}))),
}
READ_ALL = """
import json, sys
from pathlib import Path
from lat_export.conversion import from_polygraphy
from lat_export.errors import InputError
told = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        from_polygraphy(folder / "inputs.json", folder / "outputs.json", Path(sys.argv[2]), folder / "golden")
        told[folder.name] = "no error"
    except InputError as error:
        told[folder.name] = str(error)
    assert sorted(path.name for path in folder.iterdir()) == ["inputs.json", "outputs.json"], folder
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The error for each change, all from one process."""
    root = tmp_path_factory.mktemp("refused")
    for name, (_, change) in {**OF_AN_ARRAY, **OF_A_FILE}.items():
        change(Path(shutil.copytree(written, root / name)))
    done = run(sys.executable, "-c", READ_ALL, root, LIKE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # Polygraphy's own lines are in our errors
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", OF_AN_ARRAY)
def test_arrays_that_do_not_fit(name: str, told: dict[str, str]) -> None:
    assert OF_AN_ARRAY[name][0] in told[name]
    assert f"iteration {CASES - 1}" in told[name]


@pytest.mark.parametrize("name", OF_A_FILE)
def test_files_that_do_not_fit(name: str, told: dict[str, str]) -> None:
    assert OF_A_FILE[name][0] in told[name]


def test_one_of_two_runners_is_chosen(files: Path) -> None:
    results = json.loads((files / "outputs.json").read_text())
    results["lst"].append(["other", results["lst"][0][1]])
    (files / "outputs.json").write_text(json.dumps(results))
    printed = from_polygraphy(files, LIKE, code=2)
    assert "lat-export-golden, other" in printed
    assert "no such runner" in from_polygraphy(files, LIKE, "--runner", "third", code=2)
    from_polygraphy(files, LIKE, "--runner", "other")
    golden = Golden(files / "golden")
    assert {case.computed_by for case in golden} == {"other"}
    assert "--runner other" in golden.how_to_remake()


def test_golden_of_another_task_is_no_likeness(files: Path) -> None:
    printed = from_polygraphy(files, GOLDEN / "longformer" / "fill-mask", code=2)
    assert "expected: logits" in printed


def test_folders_of_polygraphy_are_told_apart(files: Path, tmp_path: Path) -> None:
    words = ("--load-inputs", tmp_path, "--load-outputs", files / "outputs.json", "--like", tmp_path / "nothing")
    assert "no golden tensors there" in lat_export("golden", "from-polygraphy", *words, "--out", tmp_path / "x", code=2)
    words = (*words[:4], "--like", LIKE)
    assert "that end in .json" in lat_export(
        "golden", "from-polygraphy", *words, "--out", tmp_path / "x", code=2, run=forked.started
    )


def test_golden_tensors_of_polygraphy_have_no_checkpoint(files: Path, tmp_path: Path) -> None:
    from lat_export.goldens import check_goldens

    from_polygraphy(files, LIKE)
    assert check_goldens(files) == [f"golden: {CASES} cases, its digests hold"]
    with pytest.raises(InputError, match="not made from a checkpoint"):
        check_goldens(files, str(LIKE / "checkpoint"))


def test_without_polygraphy_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "polygraphy.py").write_text("raise ModuleNotFoundError('No module named polygraphy')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lat_export.cli import main; "
        f"sys.argv = ['lat-export', 'golden', 'to-polygraphy', {str(GOLDEN / 'yoso' / 'fill-mask')!r}, "
        f"{str(tmp_path / 'out')!r}]; main()"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 3
    assert "Polygraphy is not installed" in done.stderr
    assert "pip install polygraphy" in done.stderr
