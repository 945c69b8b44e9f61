"""Whether an engine would build, told without TensorRT and without a GPU: every rule that is known, over the graph."""

from __future__ import annotations

from lat_export.dry_run.findings import ERROR, NOTE, WARNING, Finding
from lat_export.dry_run.report import DryRun, Trial
from lat_export.dry_run.start import dry_run

__all__ = ["ERROR", "NOTE", "WARNING", "DryRun", "Finding", "Trial", "dry_run"]
