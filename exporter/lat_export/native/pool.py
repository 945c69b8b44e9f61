"""Threads for the kernels: a `lat_parallel` over a pool of Python threads.

A task is C code that ctypes calls without the interpreter's lock, so tasks run at the same time; only taking the next
index holds it. The kernel itself is called from a thread of the pool, too: the main thread may get a KeyboardInterrupt
in any line of Python, and ctypes would swallow it inside of a callback, with tasks left undone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

from lat_export.native.abi import Parallel, Run


def call_with_threads(kernel: Callable[[Parallel | None], None], threads: int) -> None:
    """Call a kernel that runs its tasks on up to `threads` threads; with one, on the caller's own."""
    if threads == 1:
        kernel(None)
        return
    pool, errors = _pool(threads), deque[BaseException]()

    def run(_: Any, count: int, task: Callable[[Any, int], None], context: Any) -> None:
        left = deque(range(count))

        def work() -> None:
            try:
                while True:
                    task(context, left.popleft())
            except IndexError:
                return

        try:
            helpers = [pool.submit(work) for _ in range(min(threads, count) - 1)]
            work()
            wait([helper for helper in helpers if not helper.cancel()])
            errors.extend(error for helper in helpers if not helper.cancelled() and (error := helper.exception()))
        except BaseException as error:  # nothing may be thrown into C
            errors.append(error)

    pool.submit(kernel, Parallel(Run(run), None, threads)).result()
    if errors:
        raise errors[0]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lat-kernel")


# A forked process has the pool's books, but none of its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
