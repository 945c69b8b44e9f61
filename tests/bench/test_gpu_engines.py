"""benchmarks/engines: what one call on a machine with a GPU runs, as far as it runs without one.

TensorRT and the driver are played where an engine has to run: its outputs are constants, which no golden tensor is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import GOLDEN, ROOT

from lat_export.environment import gpu_count
from lat_export.pipeline import Exported, export
from lat_export.targets import TARGETS
from lat_export.types import ModelSpec

ENGINES = ROOT / "benchmarks" / "engines"
PLAYED = ROOT / "tests" / "tensorrt_api" / "played"
NAME = "longformer-feature-extraction"
RTX_LACK = TARGETS["trt-rtx"].missing()
needs_rtx = pytest.mark.skipif(RTX_LACK is not None, reason=f"TensorRT-RTX is missing: {RTX_LACK}")
no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """`script("pieces")`: a module of benchmarks/engines."""
    import importlib

    monkeypatch.syspath_prepend(ENGINES)
    return importlib.import_module


def start(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """run.py as the Makefile starts it."""
    search = {"PYTHONPATH": os.pathsep.join([str(ROOT / "exporter"), environment.pop("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, ENGINES / "run.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **search, **environment},
    )


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def cut(script: Callable[[str], ModuleType], tmp_path: Path) -> tuple[Path, list[Path]]:
    """A folder, and what it was cut into."""
    whole = tmp_path / "whole"
    (whole / "site" / "package").mkdir(parents=True)
    (whole / "site" / "package" / "library.so").write_bytes(os.urandom(70_000))
    (whole / "about.json").write_text("{}")
    return whole, script("pieces").cut(whole, tmp_path / "carry", 32_000, preset=0)


def test_pieces_are_small_and_join_to_the_same_files(
    cut: tuple[Path, list[Path]], script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    whole, folders = cut
    assert [folder.name for folder in folders] == ["1", "2", "3"]
    for folder in folders:
        assert sum(path.stat().st_size for path in folder.glob("piece.*")) <= 32_000 + 200
    # The first call keeps its piece for the next; the last one carries the rest.
    script("pieces").keep(folders[:2], tmp_path / "kept")
    out = script("pieces").join([folders[2], tmp_path / "kept"], tmp_path / "out")
    assert files_of(out) == files_of(whole)


def test_pieces_that_are_not_whole_are_refused(
    cut: tuple[Path, list[Path]], script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    _, folders = cut
    join = script("pieces").join
    with pytest.raises(SystemExit, match=r"of 3 pieces piece.1 is not here"):
        join([folders[0], folders[2]], tmp_path / "out")
    with pytest.raises(SystemExit, match=r"no pieces.json in any"):
        join([tmp_path / "nowhere"], tmp_path / "out")
    piece = bytearray((folders[1] / "piece.1").read_bytes())
    piece[100] ^= 1
    (folders[1] / "piece.1").write_bytes(piece)
    with pytest.raises(SystemExit, match="another digest"):
        join(folders, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@needs_rtx
def test_engines_are_for_the_gpu_where_the_library_knows_it(script: Callable[[str], ModuleType]) -> None:
    carry = script("carry")
    assert carry.capabilities("8.9") == ("8.9",)
    assert carry.capabilities("9.0") == ()  # Hopper is not among them: the library chooses
    assert len(carry.golden_models()) == 18
    assert 2**20 < carry.checkout_bytes() < 2**25  # what is left of a call holds more than half of its 64 MiB


@needs_rtx
@no_gpu
def test_without_a_gpu_the_librarys_own_words_are_recorded(exported: Callable[..., Exported], tmp_path: Path) -> None:
    bundle = exported("text-classification", "trt-rtx").bundle.folder
    done = start("--one", bundle, "--answer", tmp_path / "answer.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "answer.json").read_text())
    assert "cudaError 35: CUDA driver version is insufficient for CUDA runtime version" in found["words"][0]
    assert found["as lat-export validate runs it"] == {"verdict": "refused", "why": "built, not run: no GPU"}
    assert found["on a CUDA stream"]["verdict"] == "refused"


def packed(script: Callable[[str], ModuleType], tmp_path: Path) -> Path:
    """A bundle with its golden tensors, as carry.py packs it; the played TensorRT built its engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLAYED)
        patch.setenv("PYTHONPATH", str(PLAYED), prepend=":")
        patch.setenv("LAT_EXPORT_PLUGINS", "/nowhere")
        checkpoint = GOLDEN / "longformer" / "feature-extraction" / "checkpoint"
        whole = tmp_path / "whole"
        export(ModelSpec(str(checkpoint), "trt", whole / "bundles" / NAME))
    (whole / "about.json").write_text(json.dumps({"library": "played"}))
    script("pieces").cut(whole, tmp_path / "carry", 2**30, preset=0)
    return tmp_path / "carry"


def test_one_call_checks_and_times_the_engines(
    script: Callable[[str], ModuleType], played_driver: Path, tmp_path: Path
) -> None:
    """All outputs of the played engine are 1.5: that fails, and the figure says by how much."""
    if TARGETS["trt"].missing() is None:
        pytest.skip("TensorRT itself is installed here")
    environment = {
        "PYTHONPATH": str(PLAYED),
        "LD_LIBRARY_PATH": str(played_driver.parent),
        "PLAYED_GPU": "1",
        "TMPDIR": str(tmp_path),
        "LAT_EXPORT_PLUGINS": "/nowhere",
        "LAT_COMMIT": "c0ffee",
    }
    done = start("--carried", packed(script, tmp_path), "--out", tmp_path, "--no-full-size", **environment)
    assert done.returncode == 1, done.stderr
    found = json.loads((tmp_path / "engines.json").read_text())
    assert (found["commit"], found["carried"]) == ("c0ffee", {"library": "played"})
    assert {"count": 1, "name": "a played GPU", "compute_capability": "9.0"}.items() <= found["gpu"].items()
    (row,) = found["engines"]
    assert (row["bundle"], row["engine"], row["verdict"], row["words"]) == (NAME, "carried", "failed", [])
    on_stream = row["on a CUDA stream"]
    assert on_stream["verdict"] == "failed"
    assert on_stream["worst"]["relative_l2"] > 0.1
    assert on_stream["comparisons"] > 10
    # Polygraphy drives no played library: what it says is kept.
    assert row["as lat-export validate runs it"]["verdict"] == "refused"
    assert found["verdicts"] == {"failed": 1}
    assert found["engines_that_run"] == "carried"
    assert found["bench"] == [
        {"bundle": NAME, "exit_code": 0, "file": f"bench_gpu_{NAME}.json", "stderr": found["bench"][0]["stderr"]}
    ]
    head, _, *rows = script("table").lines([tmp_path / f"bench_gpu_{NAME}.json"])
    assert head.startswith("| model | B | N | engine | CUDA graph | PyTorch eager | torch.compile | faster |")
    assert [cell.strip() for cell in rows[0].split("|")[1:-1]][:7] == [
        NAME, "1", "256", "0.250 ms", "0.250 ms", "-", "-",
    ]  # fmt: skip


def test_a_table_compares_the_graph_with_the_faster_pytorch(script: Callable[[str], ModuleType]) -> None:
    def row(subject: str, median: float) -> dict[str, Any]:
        parts = {"back to back": [median * 2, median, median * 3]}
        return {"subject": subject, "error": None, "latency": {"median": median}, "parts": parts}

    rows = [row("engine", 2e-3), row("engine-graph", 1e-3), row("pytorch-gpu", 5e-3), row("pytorch-gpu-compile", 3e-3)]
    line = script("table").line("model", {"batch": 8, "tokens": 4096, "rows": rows})
    assert line == "| model | 8 | 4096 | 2.000 ms | 1.000 ms | 5.000 ms | 3.000 ms | 3.00 x | 500 |"
    rows[1] = {"subject": "engine-graph", "error": "the engine cannot be captured"}
    line = script("table").line("model", {"batch": 8, "tokens": 4096, "rows": rows})
    assert line == "| model | 8 | 4096 | 2.000 ms | - | 5.000 ms | 3.000 ms | 1.50 x | 250 |"
