"""A subject's process: quiet between runs, and its end is told."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN

from lat_export.bench.child import Child, ChildError, Job
from lat_export.bench.settling import cpu_seconds
from lat_export.bench.subjects.gemm import product_model
from lat_export.bench.sweep import Point, point_inputs
from lat_export.types import Signature

GEMM = {"rows": 64, "inner": 32, "columns": 32}


@contextmanager
def child(kind: str, arguments: dict[str, Any], inputs: dict[str, Any], folder: Path) -> Iterator[Child]:
    np.savez(folder / "inputs.npz", **inputs)
    made = Child(Job(kind, kind, arguments, folder / "inputs.npz", threads=2), folder)
    try:
        yield made
    finally:
        made.close()


def in_onnxruntime(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    (folder / "product.onnx").write_bytes(product_model(np.ones((512, 512), np.float32)))
    return {"model": str(folder / "product.onnx")}, {"rows": np.ones((512, 512), np.float32)}


def in_pytorch(_folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    home = GOLDEN / "longformer" / "feature-extraction"
    signature = json.loads((home / "golden.json").read_text())["signature"]
    arguments = {
        "checkpoint": str(home / "checkpoint"),
        "signature": signature,
        "options": {},
        "allow_pickle": False,
        "tokens": 96,
    }
    return arguments, point_inputs(Signature.from_json(signature), Point(2, 96, globals=1))


@pytest.mark.parametrize(("kind", "make"), [("peer", in_onnxruntime), ("pytorch", in_pytorch)])
def test_an_idle_one_computes_nothing(kind: str, make: Callable[[Path], Any], tmp_path: Path) -> None:
    with child(kind, *make(tmp_path), tmp_path) as process:
        process.opened()
        process.ask("warm_up")
        for _ in range(3):
            assert process.ask("run")["seconds"] > 0
        process.settle()
        before = cpu_seconds(process.pid)
        time.sleep(0.4)
        assert before > 0.05  # what it computed so far is seen
        assert cpu_seconds(process.pid) - before < 0.02


def test_memory_is_told_and_its_peak_counted_anew(tmp_path: Path) -> None:
    with child("gemm", GEMM, {}, tmp_path) as process:
        opened = process.opened()
        assert opened["operations"] % (2 * 64 * 32 * 32) == 0
        memory = opened["memory"]
        assert memory["peak"] >= memory["resident"] > memory["anonymous"] > 0
        if process.ask("reset_peak")["reset"]:
            now = process.ask("memory")["memory"]
            assert now["peak"] <= now["resident"] + 2_000_000


def test_one_that_is_killed_is_an_error_that_says_so(tmp_path: Path) -> None:
    with child("gemm", GEMM, {}, tmp_path) as process:
        process.opened()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ChildError, match=r"ended by SIGKILL \(out of memory\?\)"):
            process.ask("run")


def test_one_that_does_not_start_is_an_error_that_says_why(tmp_path: Path) -> None:
    with child("gemm", {"rows": 1}, {}, tmp_path) as process, pytest.raises(ChildError, match="KeyError: 'inner'"):
        process.opened()


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """Its input is at its end then."""
    with child("gemm", GEMM, {}, tmp_path) as process:
        process.opened()
        assert process._process.stdin is not None
        process._process.stdin.close()
        assert process._process.wait(timeout=10) == 0
