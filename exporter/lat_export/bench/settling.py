"""Waits until threads that spin on after their work have stopped: they would take a processor from what comes next."""

from __future__ import annotations

import time
from pathlib import Path

# A process is quiet when it computed less than `QUIET_S` within `WATCHED_S`.
WATCHED_S, QUIET_S, LONGEST_WAIT_S = 0.005, 0.0005, 2.0


def settle(pid: int) -> None:
    """Return when the process is quiet, or after `LONGEST_WAIT_S`."""
    until = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < until:
        before = cpu_seconds(pid)
        time.sleep(WATCHED_S)
        if cpu_seconds(pid) - before < QUIET_S:
            return


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have computed so far; 0 where the system does not tell."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (OSError, IndexError, ValueError):
            continue
    return total / 1e9
