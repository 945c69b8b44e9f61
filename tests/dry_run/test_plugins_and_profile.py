"""`lat` nodes against their plugins, and the profile against the graph."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dry_run.graphs import FLOAT, INT64, banded_model, errors, only_error, plugin_folder

from lat_export import native
from lat_export.dry_run import DryRun
from lat_export.dry_run.plugin_rules import CUDA_HEAD_SIZES, PLUGIN_SOURCE, plugin_library
from lat_export.dry_run.profile_rules import whole_steps
from lat_export.ops import OPS
from lat_export.types import Range

pytestmark = pytest.mark.usefixtures("no_plugins")

Examined = Callable[..., DryRun]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plugin_folder(tmp_path / "built", "banded_window_attention", "global_token_attention")
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(folder))


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "below its bounds": ({"num_heads": 0}, "num_heads"),
    "beyond int32": ({"window": 2**31}, "window"),
    "of another type": ({"scale": "much"}, "scale"),
    "real for a whole number": ({"window": 4.0}, "window"),
    "negative": ({"scale": -0.25}, "scale"),
    "not finite": ({"scale": float("inf")}, "scale"),
    "missing": ({"scale": None}, "takes other attributes"),
    "neither 0 nor 1": ({"allow_tf32": 2}, "allow_tf32"),
    "below 0": ({"allow_tf32": -1}, "allow_tf32"),
    "one too many": ({"dilation": 2}, "takes other attributes"),
}


@pytest.mark.parametrize("case", FIELDS)
@pytest.mark.parametrize("target", ["trt", "trt-rtx"])
def test_field_that_the_plugin_refuses(case: str, target: str, examined: Examined, tmp_path: Path, built: None) -> None:
    changed, word = FIELDS[case]
    found = [f for f in errors(examined(banded_model(tmp_path / "m.onnx", **changed), target)) if f.node == "attention"]
    assert found
    assert (found[0].rule, word in found[0].what) == ("plugin fields", True), found[0]
    assert found[0].mend


@pytest.mark.parametrize("allow_tf32", [None, 0, 1])
def test_field_that_may_be_absent(allow_tf32: int | None, examined: Examined, tmp_path: Path, built: None) -> None:
    assert examined(banded_model(tmp_path / "m.onnx", allow_tf32=allow_tf32)).works


@pytest.mark.parametrize("head_size", CUDA_HEAD_SIZES)
def test_head_sizes_that_the_kernels_take(head_size: int, examined: Examined, tmp_path: Path, built: None) -> None:
    assert examined(banded_model(tmp_path / "m.onnx", width=2 * head_size)).works


def test_head_size_24_ends_a_build_with_plugins(examined: Examined, tmp_path: Path, built: None) -> None:
    path = banded_model(tmp_path / "m.onnx", width=48)
    finding = only_error(examined(path))
    assert (finding.rule, finding.node) == ("head size", "attention")
    assert finding.got == "D=24 (E=48, num_heads=2)"
    assert "without liblat_trt" in finding.mend
    assert examined(path, "trt-rtx").works  # it has no plugins


def test_head_size_24_without_plugins_is_a_warning(examined: Examined, tmp_path: Path) -> None:
    found = examined(banded_model(tmp_path / "m.onnx", width=48))
    assert found.works
    assert found.forms == {"attention": "body"}
    warning = next(f for f in found.findings if f.severity == "warning")
    assert "where liblat_trt.so is loaded" in warning.what
    note = next(f for f in found.findings if f.rule == "plugin library")
    assert "not built here" in note.what
    assert "no liblat_trt.so" in note.got


def test_head_sizes_are_those_of_the_kernels() -> None:
    text = (ROOT / "plugins" / "common" / "cuda_entry.cpp").read_text()
    body = text[text.index("void check_cuda_head_size") :]
    listed = re.findall(r"head_size != (\d+)", body[: body.index("\n}")])
    assert tuple(map(int, listed)) == CUDA_HEAD_SIZES


def test_heads_that_do_not_divide_the_width(examined: Examined, tmp_path: Path) -> None:
    found = [f for f in errors(examined(banded_model(tmp_path / "m.onnx", width=33))) if f.node == "attention"]
    assert [f.rule for f in found] == ["inputs of a lat op"]
    assert found[0].expected == "E % num_heads == 0"


@pytest.mark.parametrize("dtype", [INT64, FLOAT])
def test_mask_of_another_type(dtype: int, examined: Examined, tmp_path: Path) -> None:
    found = errors(examined(banded_model(tmp_path / "m.onnx", mask=dtype)))
    assert [(f.rule, f.node, f.expected) for f in found] == [("inputs of a lat op", "attention", "int32")]
    assert "attention_mask" in found[0].what


def test_plugins_of_another_major_version(
    examined: Examined, tmp_path: Path, built: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT itself is played: a module of its name and a version."""
    from lat_export.targets import TARGETS

    (tmp_path / "their_tensorrt.py").write_text("__version__ = '11.1.0'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(TARGETS["trt"], "module", "their_tensorrt")
    found = examined(banded_model(tmp_path / "m.onnx"))
    warning = next(f for f in found.findings if f.rule == "plugin library")
    assert (warning.severity, warning.got, warning.expected) == ("warning", "10", "11")


def test_sources_tell_which_plugins_there_could_be() -> None:
    library = plugin_library()
    assert not library.built
    assert library.registered == frozenset()
    assert set(library.ops) == {
        name for name, op in OPS.items() if (ROOT / "plugins" / op.stem / PLUGIN_SOURCE).is_file()
    }
    assert "BandedWindowAttention" in library.ops


def test_lengths_that_landmarks_do_not_divide(examined: Examined, bundles: Callable[[str], Path]) -> None:
    folder = bundles("nystromformer")
    assert examined(folder, sequence=Range(8, 16, 96)).works
    for target in ("trt", "trt-rtx"):
        finding = only_error(examined(folder, target, sequence=Range(8, 20, 90)))
        assert (finding.rule, finding.node) == ("profile", "layer.0.NystromAttention")
        assert finding.got == "--seq 8:20:90 (opt, max is none), L=8"
        assert finding.mend == "--seq 8:24:96"
    bare = only_error(examined(folder / "model.onnx", sequence=Range(7, 16, 96)))
    assert "min is none" in bare.got


@pytest.mark.parametrize(
    ("lengths", "step", "most", "mended"),
    [
        (Range(1, 9, 17), 8, None, "8:16:24"),
        (Range(1, 9, 17), 8, 20, "8:16:16"),
        (Range(30, 31, 31), 16, 31, "16:16:16"),
    ],
)
def test_mended_lengths(lengths: Range, step: int, most: int | None, mended: str) -> None:
    assert whole_steps(lengths, step, most) == mended


def test_positions_are_those_of_the_checkpoint(examined: Examined, bundles: Callable[[str], Path]) -> None:
    folder = bundles("longformer")
    finding = only_error(examined(folder, sequence=Range(1, 8, 257)))
    assert (finding.rule, finding.expected, finding.mend) == ("profile", "N <= 256", "--seq 1:8:256")
    bare = examined(folder / "model.onnx", sequence=Range(1, 8, 256), max_global=4)
    assert bare.works
    assert any("position table is not checked" in f.what for f in bare.findings)


def test_bound_on_global_tokens(examined: Examined, bundles: Callable[[str], Path]) -> None:
    folder = bundles("longformer")
    assert "--max-global 3840" in next(f for f in errors(examined(folder, max_global=4000)) if f.rule == "profile").mend
    more_than_fit = examined(folder, max_global=65)
    assert more_than_fit.works
    assert any(f.rule == "profile" and f.severity == "warning" for f in more_than_fit.findings)
    no_bound = errors(examined(folder / "model.onnx", max_global=None))
    assert any("K of TopK hangs on the data" in f.what and "--max-global" in f.mend for f in no_bound)
