"""Time by op out of onnxruntime's events."""

from __future__ import annotations

from typing import Any

from lat_export.bench.op_times import op_times_of


def event(name: str, ts: int, dur: int, op: str = "", cat: str = "Node") -> dict[str, Any]:
    return {"name": name, "cat": cat, "ts": ts, "dur": dur, "args": {"op_name": op}}


EVENTS = [
    event("first/MatMul_kernel_time", 5, 900, "MatMul"),
    event("model_run", 0, 1000, cat="Session"),
    event("a/MatMul_kernel_time", 1000, 40, "MatMul"),
    event("_inlfunc_BandedWindowAttention_node_Mul_3_kernel_time", 1050, 10, "Mul"),
    event("_inlfunc_BandedWindowAttention_node_Softmax_4_kernel_time", 1060, 20, "Softmax"),
    event("own_kernel_time", 1080, 20, "LshCumulation"),
    event("if_kernel_time", 1100, 10, "If"),
    event("inside/MatMul_kernel_time", 1102, 8, "MatMul"),
    event("SequentialExecutor::Execute", 1000, 110, cat="Session"),
    event("model_run", 1000, 120, cat="Session"),
]


def test_the_last_run_by_op_bodies_with_their_op_and_graphs_without_what_is_in_them() -> None:
    found = {time.op: (time.ms, time.nodes) for time in op_times_of(EVENTS)}
    assert found == {
        "MatMul": (0.048, 2),
        "lat::BandedWindowAttention": (0.03, 2),
        "lat::LshCumulation": (0.02, 1),
        "If": (0.002, 1),
    }
    assert sum(time.share for time in op_times_of(EVENTS)) == 1.0
    assert op_times_of(EVENTS)[0].op == "MatMul"
