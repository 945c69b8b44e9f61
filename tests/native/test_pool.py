"""The threads that kernels called from Python run on."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lat_export.native.abi import Parallel, Task
from lat_export.native.pool import call_with_threads

# Two tasks that wait for each other, up to ten seconds: they meet only where both run at the same time.
MEETING = """
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include "common/kernel_abi.h"
static atomic_int here, met;
static void task(void* context, int64_t index) {
  (void)context; (void)index;
  atomic_fetch_add(&here, 1);
  for (int waited = 0; waited < 10000; ++waited) {
    if (atomic_load(&here) == 2) { atomic_fetch_add(&met, 1); return; }
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, 0);
  }
}
int meet(const lat_parallel* parallel) {
  atomic_store(&here, 0);
  atomic_store(&met, 0);
  parallel->run(parallel->pool, 2, task, 0);
  return atomic_load(&met);
}
"""


def run_tasks(parallel: Parallel | None, count: int, work: Callable[[int], None]) -> None:
    """As a kernel does."""
    assert parallel is not None
    task = Task(lambda context, index: work(index))
    parallel.run(parallel.pool, count, task, None)


def test_two_tasks_run_at_the_same_time(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "meeting.c").write_text(MEETING)
    plugins = Path(__file__).resolve().parents[2] / "plugins"
    command = [compiler, "-shared", "-fPIC", "-I", plugins, "meeting.c", "-o", "meeting.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "meeting.so"))
    met = []
    call_with_threads(lambda parallel: met.append(library.meet(ctypes.byref(parallel))), 2)  # type: ignore[arg-type]
    assert met == [2]


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_every_task_runs_once(threads: int, count: int) -> None:
    done: list[int] = []
    call_with_threads(lambda parallel: run_tasks(parallel, count, done.append), threads)
    assert sorted(done) == list(range(count))


def test_one_thread_is_the_callers_own() -> None:
    seen: list[Any] = []
    call_with_threads(lambda parallel: seen.extend((parallel, threading.current_thread())), 1)
    assert seen == [None, threading.current_thread()]


def test_calls_from_many_threads_at_once() -> None:
    """More calls than the pool has threads: none waits for another's helpers."""
    done: list[int] = []

    def call() -> None:
        for _ in range(20):
            call_with_threads(lambda parallel: run_tasks(parallel, 50, done.append), 2)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(done) == 6 * 20 * 50


def test_a_kernel_may_run_tasks_again_and_again() -> None:
    done: list[int] = []

    def kernel(parallel: Parallel | None) -> None:
        for _ in range(5):
            run_tasks(parallel, 10, done.append)

    call_with_threads(kernel, 2)
    assert len(done) == 50


def test_an_error_in_the_kernels_call_reaches_the_caller() -> None:
    def kernel(parallel: Parallel | None) -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        call_with_threads(kernel, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """A pool that was used before the fork has no threads behind it in the child: it would wait for ever."""
    code = """
import os, sys
from lat_export.native.abi import Task
from lat_export.native.pool import call_with_threads
done = []
def kernel(parallel):
    parallel.run(parallel.pool, 9, Task(lambda context, index: done.append(index)), None)
call_with_threads(kernel, 2)
child = os.fork()
if child == 0:
    call_with_threads(kernel, 2)
    os._exit(0 if len(done) == 18 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
