"""A plugin of pytest, `-p gpu.runs`: where the CUDA tests of an op passed, in $OUT/gpu_runs.json.

That file is committed as plugins/gpu_runs.json.
A test file says in `OPS` whose kernels it tests. An op is written down when the whole session passed and no test of its
file was left out; `lat-export plugins list` shows it.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest
import torch

_passed: dict[str, int] = {}
_left_out: set[str] = set()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):  # type: ignore[no-untyped-def]
    report = (yield).get_result()
    for op in getattr(getattr(item, "module", None), "OPS", ()):
        if report.when == "call" and report.passed:
            _passed[op] = _passed.get(op, 0) + 1
        elif not report.passed:
            _left_out.add(op)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    folder = os.environ.get("OUT")
    whole = "LAT_GPU_CASES" not in os.environ and not session.config.option.keyword
    if not folder or not whole or exitstatus or not torch.cuda.is_available():
        return
    run = {
        "gpu": torch.cuda.get_device_name(0),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": os.environ.get("LAT_COMMIT", "unknown"),
    }
    runs = {op: {**run, "tests": str(count)} for op, count in sorted(_passed.items()) if op not in _left_out}
    (Path(folder) / "gpu_runs.json").write_text(json.dumps(runs, indent=1) + "\n")
