"""`engine-graph`: the same, captured into a CUDA graph once the shapes are set: one launch a request."""

from __future__ import annotations

from lat_export.bench.subjects.engine import EngineSubject


class EngineGraphSubject(EngineSubject):
    name = "engine-graph"
    title = "the bundle's engine on the GPU, as a CUDA graph"
    has_graph = True


SUBJECT = EngineGraphSubject()
