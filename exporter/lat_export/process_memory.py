"""Memory of this process, as Linux counts it; elsewhere nothing is known."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

RESET_PEAK = "5"


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        resident: now.
        peak: the most that was resident at once, since the start or the last `reset_peak`.
        anonymous: of what is resident now, what no file backs: not libraries, nor weights that are mapped in.
    """

    resident: int
    peak: int
    anonymous: int


def read_memory() -> Memory | None:
    """None where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    try:
        return Memory(*(int(fields[name][0]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon")))
    except KeyError:
        return None


def reset_peak() -> bool:
    """From now on the peak is counted anew; False where the system does not permit that."""
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def release_unused() -> None:
    """What was freed goes back to the system, so that what is resident is what is in use."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
