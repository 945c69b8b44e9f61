"""Bad input: what the user reads, and the exit code. Each runs the command in a process of its own; one of each exit
code, and those that hang on how Python starts, from the start on as a user does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from conftest import GOLDEN
from forked import lat_export, started
from safetensors.torch import load_file, save_file

from lat_export.digest import file_sha256
from lat_export.errors import InputError
from lat_export.pipeline import Exported
from lat_export.stages.bundle import read_bundle
from lat_export.stages.load import load
from lat_export.types import ModelSpec

Export = Callable[..., Exported]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
FILL_MASK = GOLDEN / "longformer" / "fill-mask" / "checkpoint"


def fails(out: Path, *arguments: str | Path, code: int = 2, run: Run = lat_export, **environment: str) -> str:
    """Run `model`; the error as the user reads it. Nothing may be left where the bundle would have been."""
    done = run("model", *arguments, "--out", out, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))
    return done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILL_MASK, tmp_path / "copy"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_folder_without_config(copy: Path, out: Path) -> None:
    (copy / "config.json").unlink()
    assert "has no config.json" in fails(out, copy, "--to", "onnx")


def test_folder_without_weights(copy: Path, out: Path) -> None:
    (copy / "model.safetensors").unlink()
    error = fails(out, copy, "--to", "onnx")
    assert "has no weights" in error
    assert "expected: model.safetensors" in error


def test_config_that_is_no_json(copy: Path, out: Path) -> None:
    (copy / "config.json").write_text("{")
    assert "config.json is not valid JSON" in fails(out, copy, "--to", "onnx")


def test_missing_folder(tmp_path: Path, out: Path) -> None:
    assert "no such checkpoint folder" in fails(out, tmp_path / "nowhere", "--to", "onnx", run=started)


def test_hub_id_offline(out: Path) -> None:
    error = fails(out, "some-organisation/no-such-model", "--to", "onnx", run=started, HF_HUB_OFFLINE="1")
    assert "neither a folder nor a model that could be fetched from the hub" in error
    assert "hint: check the spelling; offline, give the path of a local folder" in error


def test_family_that_is_not_ours(copy: Path, out: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
    error = fails(out, copy, "--to", "onnx")
    assert "'bert' is not a family that lat-export exports" in error
    assert "longformer" in error


def test_task_without_its_head(out: Path) -> None:
    error = fails(out, FILL_MASK, "--task", "question-answering", "--to", "onnx")
    assert "no weights for the question-answering head" in error
    assert "qa_outputs.weight" in error


def test_checkpoint_that_names_no_task(copy: Path, out: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["architectures"] = ["LongformerForSomethingElse"]
    (copy / "config.json").write_text(json.dumps(config))
    error = fails(out, copy, "--to", "onnx")
    assert "does not say which task" in error
    assert "--task" in error


def test_unknown_task(out: Path) -> None:
    assert "'summarization' is not one of" in fails(out, FILL_MASK, "--task", "summarization", "--to", "onnx")


def test_pickled_weights_need_consent(copy: Path, out: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    error = fails(out, copy, "--to", "onnx")
    assert "can run code when it is read" in error
    assert "--allow-pickle" in error
    done = lat_export("model", copy, "--to", "onnx", "--allow-pickle", "--out", out)
    assert done.returncode == 0, done.stderr


def test_pickle_that_runs_code_is_refused_even_with_consent(copy: Path, out: Path, tmp_path: Path) -> None:
    """`--allow-pickle` reads with weights_only: a payload is an error, not run."""
    witness = tmp_path / "was-run"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {witness}",)

    torch.save({"weight": Payload()}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    fails(out, copy, "--to", "onnx", "--allow-pickle")
    assert not witness.exists()


def test_config_and_weights_of_different_sizes(copy: Path, out: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    error = fails(out, copy, "--to", "onnx")
    assert "the weights do not have the sizes that config.json gives" in error
    assert "(32,)" in error
    assert "(64,)" in error


@pytest.mark.parametrize("layers", [2, 4])
def test_config_with_another_number_of_layers(layers: int, copy: Path, out: Path) -> None:
    """Fewer would silently drop weights, and parity could not see it: the reference would drop them too."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers, "attention_window": 8}))
    assert "config.json describes another model than the weights are of" in fails(out, copy, "--to", "onnx")


def test_config_without_padding_token(copy: Path, out: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    assert "counts positions from pad_token_id" in fails(out, copy, "--to", "onnx")


def test_config_that_cannot_be_built(copy: Path, out: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_attention_heads": 5}))
    assert "not a multiple of the number of attention" in fails(out, copy, "--to", "onnx")


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_safetensors(keep: int, copy: Path, out: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:keep])
    assert "the safetensors file is truncated or damaged" in fails(out, copy, "--to", "onnx")


def test_damaged_tokenizer(copy: Path, out: Path) -> None:
    (copy / "tokenizer.json").write_text('{"model": ')
    error = fails(out, copy, "--to", "onnx")
    assert "tokenizer.json cannot be read" in error


def test_range_in_the_wrong_order(out: Path) -> None:
    error = fails(out, FILL_MASK, "--to", "trt-rtx", "--seq", "4096:1024:512")
    assert "1 <= MIN <= OPT <= MAX" in error
    assert "got: 4096:1024:512" in error


@pytest.mark.parametrize("text", ["", "a", "1:2", "0:1:2", "-1", "1:2:3:4", "1.5"])
def test_range_that_is_none(text: str, out: Path) -> None:
    assert "error" in fails(out, FILL_MASK, "--to", "onnx", f"--seq={text}").lower()


def test_sequence_longer_than_the_positions(out: Path) -> None:
    error = fails(out, FILL_MASK, "--to", "onnx", "--seq", "1:64:257")
    assert "longer than the checkpoint's position table" in error
    assert "N <= 256" in error
    assert "hint: --seq 1:64:256" in error


def test_existing_folder_is_kept(out: Path, tmp_path: Path) -> None:
    out.mkdir()
    (out / "precious").write_text("data")
    for force in ([], ["--force"]):
        done = lat_export("model", FILL_MASK, "--to", "onnx", "--out", out, *force)
        assert done.returncode == 2
        assert (out / "precious").read_text() == "data"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_foreign_file_in_a_bundle_is_not_replaced(exported: Export, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported("fill-mask").bundle.folder, tmp_path / "copy"))
    (folder / "mynotes.txt").write_text("data")
    done = lat_export("model", FILL_MASK, "--to", "onnx", "--out", folder, "--force")
    assert done.returncode == 2
    assert "--force replaces only what lat-export wrote" in done.stderr
    assert (folder / "mynotes.txt").read_text() == "data"


def test_error_in_reading_is_not_blamed_on_the_output(out: Path) -> None:
    error = fails(out, "x" * 300, "--to", "onnx")
    assert "the checkpoint cannot be read" in error


def test_failed_run_leaves_no_parent_folders(tmp_path: Path) -> None:
    fails(tmp_path / "new1" / "new2" / "out", tmp_path / "nowhere", "--to", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_golden_make_deletes_nothing_foreign(tmp_path: Path) -> None:
    (tmp_path / "fill-mask").mkdir()
    (tmp_path / "fill-mask" / "thesis.txt").write_text("data")
    recipe = json.loads((GOLDEN / "longformer" / "recipe.json").read_text())
    recipe["tasks"] = {"fill-mask": {}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert started("golden", "make", tmp_path).returncode == 2
    assert (tmp_path / "fill-mask" / "thesis.txt").read_text() == "data"


def test_out_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = lat_export("model", FILL_MASK, "--to", "onnx", "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "the output folder cannot be written" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB: less than a bundle needs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs more rights than this user has")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk(small_disk: Path) -> None:
    error = fails(small_disk / "out", FILL_MASK, "--to", "onnx")
    assert "the output folder cannot be written" in error
    assert "No space left on device" in error
    assert list(small_disk.iterdir()) == []


def test_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    error = fails(small_disk / "out", FILL_MASK, "--to", "onnx")
    assert "Read-only file system" in error


def test_engine_library_missing(out: Path, tmp_path: Path) -> None:
    """Both libraries hidden by modules of the same name that do not load."""
    for module in ("tensorrt", "tensorrt_rtx"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('hidden by a test')")
    for target in ("trt", "trt-rtx"):
        error = fails(out, FILL_MASK, "--to", target, code=3, run=started, PYTHONPATH=str(tmp_path))
        assert "is not installed, so no engine can be built" in error
        assert "pip install tensorrt-rtx-cu13" in error


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(number: float, copy: Path, tmp_path: Path) -> None:
    name = "longformer.encoder.layer.1.attention.self.query.weight"
    weights = load_file(copy / "model.safetensors")
    weights[name][0, 0] = number
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"NaN or Inf(.|\n)*{name}, one of 1"):
        load(ModelSpec(str(copy), "onnx", tmp_path / "out"))


def test_validate_of_what_is_no_bundle(tmp_path: Path) -> None:
    done = lat_export("validate", tmp_path)
    assert done.returncode == 2
    assert "not a bundle: no manifest.json" in done.stderr


def test_one_changed_byte_in_any_file_is_found(exported: Export, tmp_path: Path) -> None:
    whole = exported("question-answering", "trt-rtx").bundle.folder
    names = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(names) >= 8
    for name in names:
        folder = Path(shutil.copytree(whole, tmp_path / "copy"))
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        done = lat_export("inspect", folder)
        assert done.returncode == 1, name
        assert "is not what this bundle was written with" in done.stderr
        shutil.rmtree(folder)
    done = lat_export("validate", whole)
    assert done.returncode == 0, done.stderr


def test_artifact_that_computes_something_else_gives_exit_code_1(exported: Export, tmp_path: Path) -> None:
    """The optimised model of a bundle, changed and signed again: only running it can tell, in every form of it."""
    folder = Path(shutil.copytree(exported("question-answering", "ort").bundle.folder, tmp_path / "copy"))
    wrong = folder / "model.ort.onnx"
    model = ir.load(wrong)
    bias = next(value for name, value in model.graph.initializers.items() if name.endswith("qa_outputs.bias"))
    bias.const_value = ir.tensor(bias.const_value.numpy() + 0.01, name=bias.name)
    ir.save(model, wrong)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.ort.onnx"]["sha256"] = file_sha256(wrong)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "manifest.json.sha256").write_text(f"{file_sha256(folder / 'manifest.json')}  manifest.json\n")
    done = lat_export("validate", folder, "--json")
    assert done.returncode == 1, done.stderr
    verdicts = {subject["subject"]: subject["verdict"] for subject in json.loads(done.stdout)["subjects"]}
    ran = {name: verdict for name, verdict in verdicts.items() if verdict != "not run"}
    assert ran == {name: "failed" if name.startswith("model.ort.onnx") else "passed" for name in ran}
    assert "failed" in verdicts.values()


def test_missing_file_is_found(exported: Export, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported("question-answering").bundle.folder, tmp_path / "copy"))
    (folder / "model.onnx").unlink()
    done = started("validate", folder)
    assert done.returncode == 1
    assert "model.onnx is not what this bundle was written with" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: [found], "not of a form"),
        (lambda found: {**found, "schema": 2}, "another schema"),
        (lambda found: {"schema": 1}, "not of a form"),
        (lambda found: {**found, "files": {"model.onnx": {}}}, "not of a form"),
        (lambda found: {**found, "signature": {**found["signature"], "more": 1}}, "not of a form"),
    ],
)
def test_a_manifest_of_another_version_is_told(
    change: Callable[[Any], Any], words: str, exported: Export, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported("question-answering").bundle.folder, tmp_path / "copy"))
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    (folder / "manifest.json.sha256").write_text(f"{file_sha256(manifest)}  manifest.json\n")
    with pytest.raises(InputError, match=words):
        read_bundle(folder)


def test_validate_of_what_is_not_there(tmp_path: Path) -> None:
    done = lat_export("validate", tmp_path / "nothing")
    assert (done.returncode, "no such bundle, engine or ONNX file" in done.stderr) == (2, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_stdout_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "lat_export", "doctor"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "what is printed cannot be written" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_inspect_of_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    done = lat_export("inspect", tmp_path / "x.onnx")
    assert done.returncode == 2
    assert "not an ONNX model" in done.stderr
