"""build: lowered model -> engine or optimised model."""

from __future__ import annotations

from pathlib import Path

from lat_export.stages.lower import Lowered
from lat_export.targets import Built, Target
from lat_export.types import Signature


def build(lowered: Lowered, target: Target, folder: Path, signature: Signature) -> Built:
    """Build the target's artifact into `folder`."""
    return target.build(lowered.model, folder, signature, lowered.plan)
