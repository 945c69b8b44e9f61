"""Time by op type, out of what onnxruntime's profiler writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lat_export.ops import DOMAIN, OPS

# What onnxruntime calls the nodes of a function body that it set in place of its node.
INLINED = re.compile(r"^_inlfunc_([A-Za-z0-9]+)_")


@dataclass(frozen=True)
class OpTime:
    """
    Attributes:
        op: op type, of the `lat` domain "lat::Name", also where its function body ran.
        nodes: how many ran.
    """

    op: str
    ms: float
    share: float
    nodes: int


def op_times_of(events: Sequence[dict[str, Any]]) -> list[OpTime]:
    """Of the last run, largest first.

    The nodes of a `lat` op's body count for that op, but for those that onnxruntime moved into a fused node. A node
    with a graph in it (If, Loop) counts without the nodes in that graph, which have events of their own.
    """
    run = [event for event in events if event["name"] == "model_run"][-1]
    began, ended = run["ts"], run["ts"] + run["dur"]
    nodes = [event for event in events if event["cat"] == "Node" and began <= event["ts"] <= ended]
    own = _own_times([event for event in nodes if event["name"].endswith("_kernel_time")])
    total = sum(us for _, us in own) or 1
    found: dict[str, list[float]] = {}
    for event, us in own:
        found.setdefault(_op(event), []).append(us)
    times = [OpTime(op, sum(us) / 1e3, sum(us) / total, len(us)) for op, us in found.items()]
    return sorted(times, key=lambda time: -time.ms)


def _op(event: dict[str, Any]) -> str:
    inlined = INLINED.match(event["name"])
    name = inlined[1] if inlined and inlined[1] in OPS else event["args"]["op_name"]
    return f"{DOMAIN}::{name}" if name in OPS else str(name)


def _own_times(events: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Microseconds of each event less those of the events inside of it."""
    own: list[list[Any]] = []
    around: list[list[Any]] = []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while around and event["ts"] >= around[-1][0]["ts"] + around[-1][0]["dur"]:
            around.pop()
        if around:
            around[-1][1] -= event["dur"]
        entry = [event, event["dur"]]
        own.append(entry)
        around.append(entry)
    return [(event, max(us, 0)) for event, us in own]
