"""The families of checkpoints, a file each. `FAMILIES` holds every family by its `model_type`."""

from __future__ import annotations

import sys

from lat_export.errors import InputError
from lat_export.families.contract import SHAKEN_BY, Family, Limits
from lat_export.registry import discover

FAMILIES: dict[str, Family] = discover(sys.modules[__name__], "FAMILY", "model_type")


def family_of(model_type: str) -> Family:
    """The family of that `model_type`, or an `InputError` that lists the known ones."""
    if model_type not in FAMILIES:
        raise InputError(
            f"{model_type!r} is not a family that lat-export exports",
            got=f"model_type={model_type}",
            expected=", ".join(sorted(FAMILIES)),
            hint="for other architectures use optimum-onnx or torch.onnx.export",
        )
    return FAMILIES[model_type]


__all__ = ["FAMILIES", "SHAKEN_BY", "Family", "Limits", "family_of"]
