"""One model in a process of its own: how long it takes to load, how long a run takes, what memory both need.

    python -m lat_export.deploy.host_needs_child < job.json

The process holds what the server's will: onnxruntime, the native ops and one session, and nothing of PyTorch.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from lat_export.onnxruntime_options import default_options
from lat_export.process_memory import read_memory, reset_peak


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        job: "model" and "op_library" (or null), paths; "inputs", an .npz; "threads", 0 for onnxruntime's choice.
    Returns:
        seconds of loading and of one run; of memory, bytes, "loaded" what is resident before the run, "peak" the most
        at once since the start.
    """
    import numpy as np
    import onnxruntime

    with np.load(job["inputs"]) as stored:
        inputs = {name: stored[name] for name in stored.files}
    options = default_options()
    options.intra_op_num_threads = job["threads"]
    if job["op_library"] is not None:
        options.register_custom_ops_library(job["op_library"])
    reset_peak()
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    before = read_memory()
    session.run(None, inputs)
    ended = time.perf_counter()
    after = read_memory()
    if before is None or after is None:
        raise RuntimeError("this system has no /proc to read memory from")
    return {
        "load_s": loaded - started,
        "run_s": ended - loaded,
        "loaded_bytes": before.resident,
        "peak_bytes": after.peak,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
