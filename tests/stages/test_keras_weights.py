"""Checkpoints that TensorFlow wrote (tf_longformer/make.py), against what TensorFlow computed with them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lat_export.errors import InputError
from lat_export.pipeline import export
from lat_export.stages.keras_weights import read_keras_weights
from lat_export.stages.load import load
from lat_export.targets.onnxruntime_session import open_runner
from lat_export.tasks import TASKS
from lat_export.types import ModelSpec
from lat_export.validation.compare import difference
from lat_export.validation.golden import Golden
from lat_export.validation.tolerance import RELATIVE_L2

WRITTEN_BY_TENSORFLOW = Path(__file__).parent / "tf_longformer"


@pytest.mark.parametrize("task", TASKS)
def test_export_computes_what_tensorflow_computed(task: str, tmp_path: Path) -> None:
    folder = WRITTEN_BY_TENSORFLOW / task
    made = export(ModelSpec(str(folder), "onnx", tmp_path / "out", task=task))
    recorded = np.load(folder / "expected.npz")
    inputs = {name[7:]: recorded[name] for name in recorded if name.startswith("inputs.")}
    with open_runner(tmp_path / "out" / "model.onnx", made.bundle.signature) as run:
        outputs = run(inputs)
    assert {f"outputs.{name}" for name in outputs} <= set(recorded)
    for name, array in outputs.items():
        assert difference(array, recorded[f"outputs.{name}"]).relative_l2 <= RELATIVE_L2["fp32"], name
    assert set(Golden(tmp_path / "out").manifest["origin"]["checkpoint_sha256"]) == {"config.json", "tf_model.h5"}


@pytest.mark.parametrize("task", TASKS)
def test_every_tensor_is_a_parameter(task: str, tmp_path: Path) -> None:
    loaded = load(ModelSpec(str(WRITTEN_BY_TENSORFLOW / task), "onnx", tmp_path, task=task))
    tensors = read_keras_weights(WRITTEN_BY_TENSORFLOW / task / "tf_model.h5")
    prefix = "longformer." if task == "feature-extraction" else ""
    parameters = dict(loaded.model.state_dict())
    for name, tensor in tensors.items():
        assert np.array_equal(tensor, parameters[name.removeprefix(prefix)]), name
    assert not [warning for warning in loaded.checkpoint.warnings if "no use" in warning]


def test_weights_of_another_head_are_told(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = load(ModelSpec(str(copy_of("fill-mask")), "onnx", tmp_path, task="feature-extraction"))
    told = "\n".join(loaded.checkpoint.warnings)
    assert "lm_head.dense (2 tensors)" in told
    assert "no pooler weights" in told


def test_long_lists_of_names_come_in_parts(copy_of: Callable[[str], Path]) -> None:
    """Keras cuts an attribute that HDF5 would not hold."""
    path = copy_of("question-answering") / "tf_model.h5"
    whole = read_keras_weights(path)
    with h5py.File(path, "r+") as file:
        attributes = file["longformer"].attrs
        names = attributes["weight_names"]
        del attributes["weight_names"]
        attributes["weight_names0"], attributes["weight_names1"] = names[:30], names[30:]
    assert set(read_keras_weights(path)) == set(whole)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    return lambda task: Path(shutil.copytree(WRITTEN_BY_TENSORFLOW / task, tmp_path / "copy"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        names = list(file["longformer"].attrs["weight_names"])
        file["longformer"].attrs["weight_names"] = [name for name in names if "layer_._1/output/dense/bias" not in name]


def add(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        group, name = file["longformer"], "tf_longformer/longformer/encoder/layer_._0/extra/kernel:0"
        group[name] = np.zeros((2, 2), np.float32)
        group.attrs["weight_names"] = [*group.attrs["weight_names"], name]


def contradict(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        group = file["qa_outputs"]
        name = "other/longformer/embeddings/LayerNorm/beta:0"
        group[name] = np.full(8, 9.0, np.float32)
        group.attrs["weight_names"] = [*group.attrs["weight_names"], name]


def resize(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        name = next(name for name in file["qa_outputs"].attrs["weight_names"] if "kernel" in str(name))
        del file["qa_outputs"][name]
        file["qa_outputs"][name] = np.zeros((8, 3), np.float32)


def not_keras(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)


def shards(path: Path) -> None:
    path.rename(path.with_name("tf_model.h5.index.json"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "truncated, damaged"),
        (not_keras, "no attribute layer_names"),
        (drop, "0 weights too many and 1 missing"),
        (add, "1 weights too many and 0 missing"),
        (contradict, "two different tensors"),
        (resize, "do not have the sizes"),
        (shards, "cut into shards"),
    ],
)
def test_damage_is_named(
    damage: Callable[[Path], None], words: str, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_of("question-answering")
    damage(folder / "tf_model.h5")
    with pytest.raises(InputError, match=re.escape(words)):
        load(ModelSpec(str(folder), "onnx", tmp_path))


def test_hub_model_without_safetensors_is_read_from_tensorflow(
    copy_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub holds many Longformers as a pickle and as tf_model.h5; the second is data, and needs no consent."""
    stored, cache = copy_of("fill-mask"), tmp_path / "cache"
    asked: list[list[str]] = []

    def download(model: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        cache.mkdir(exist_ok=True)
        for pattern in allow_patterns:
            for path in stored.glob(pattern):
                shutil.copyfile(path, cache / path.name)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = load(ModelSpec("someone/longformer", "onnx", tmp_path))
    assert loaded.signature.task == "fill-mask"
    assert len(asked) == 2
