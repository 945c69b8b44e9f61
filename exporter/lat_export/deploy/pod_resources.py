"""What a pod asks for: memory, processors, shared memory, and how long it may take to start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lat_export.deploy.host_needs import HostNeeds, row_bytes
from lat_export.deploy.triton_config import TEXT_INSTANCES

if TYPE_CHECKING:
    from lat_export.deploy.triton import Tensors

MIB = 1 << 20
USUAL_THREADS = 4
# tritonserver without a model, and each copy of the model that takes text: Python, numpy, the tokenizer. Of 2.51 from
# PyPI's nvidia-pytriton, CPU only, with a small tokenizer, 32 and 41 MiB were resident; NVIDIA's container loads the
# libraries of its GPU and of storage beside them, and a tokenizer of 50,000 words is larger.
SERVER_BYTES = 512 * MIB
TEXT_BYTES = 128 * MIB
# Triton's python backend keeps 1 MiB a copy there, and more as it needs it.
SHARED_OWN = 64 * MIB
# Over what was measured: heaps fragment, and lengths that come in another order leave other blocks behind.
HEADROOM = 1.25
STEP = 64 * MIB
# Starting the container, Python and the libraries; a cluster's disk and processors are not this machine's.
START_S = 60
SLOWER = 4
PROBE_S = 5


@dataclass(frozen=True)
class PodResources:
    """
    Attributes:
        memory: limit and request, with `shared` in it: files in /dev/shm count as the container's.
        shared: size of /dev/shm.
        cpus: limit and request.
        gpus: of NVIDIA.
        start_s: after which a pod that does not serve is started anew.
        rows: the most rows in a run that memory is meant for.
        parts: bytes that make up `memory`, by what needs them.
    """

    memory: int
    shared: int
    cpus: int
    gpus: int
    start_s: int
    rows: int
    parts: dict[str, int]


def pod_resources(tensors: Tensors, needs: HostNeeds, *, with_text: bool) -> PodResources:
    """
    Args:
        with_text: a model that takes text stands before the tensors.
    """
    rows = max(1, tensors.batching.most)
    texts = TEXT_INSTANCES if with_text else 0
    shared = _rounded(SHARED_OWN + _tensors_in_flight(tensors, needs.tokens, rows, texts))
    parts = {
        "tritonserver": SERVER_BYTES,
        **({"models that take text": texts * TEXT_BYTES} if texts else {}),
        "copies of the model": tensors.instances * needs.of(0),
        f"a run in each, rows: {rows}": tensors.instances * (needs.of(rows) - needs.of(0)),
    }
    own = _rounded(math.ceil(HEADROOM * sum(parts.values())))
    runs = len(tensors.warmups) * sum({1, rows})  # a row, and a full batch: see triton_config
    busy = tensors.instances * (needs.load_s + runs * needs.run_s)
    return PodResources(
        memory=own + shared,
        shared=shared,
        cpus=tensors.instances * (tensors.threads or USUAL_THREADS),
        gpus=1 if tensors.device == "gpu" else 0,
        start_s=math.ceil((START_S + SLOWER * busy) / PROBE_S) * PROBE_S,
        rows=rows,
        parts={**parts, f"{HEADROOM - 1:.0%} of it more": own - sum(parts.values()), "/dev/shm": shared},
    )


def _tensors_in_flight(tensors: Tensors, tokens: int, rows: int, texts: int) -> int:
    """Bytes that Triton and the processes of its python backend hand each other through /dev/shm at a time, twice: a
    reply is written before its request is forgotten."""
    one = row_bytes(tensors, tokens)
    batches = tensors.instances * rows if tensors.backend == "python" else 0
    return 2 * one * (batches + texts)


def _rounded(count: int) -> int:
    return math.ceil(count / STEP) * STEP
