"""Distance of one output from its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Difference:
    """
    Attributes:
        max_abs: largest absolute error.
        relative_l2: |out - ref| / |ref| in L2; the denominator is at least `scale`, and 1 where both are zero.
        cosine: cosine of the angle between the two; 1 where both are zero.
        finite: neither NaN nor Inf in the output.
    """

    max_abs: float
    relative_l2: float
    cosine: float
    finite: bool


def difference(output: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], scale: float = 0.0) -> Difference:
    """Compare two arrays of one shape, in float64.

    Args:
        scale: what the norm of such an output usually is, for outputs of a few numbers, which may be near zero.
    Raises:
        ValueError: the shapes differ.
    """
    import numpy as np

    if output.shape != reference.shape:
        raise ValueError(f"shape {output.shape} instead of {reference.shape}")
    out, ref = output.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    if not np.isfinite(out).all():
        return Difference(float("inf"), float("inf"), 0.0, finite=False)
    error = np.abs(out - ref)
    out_norm, ref_norm = float(np.linalg.norm(out)), float(np.linalg.norm(ref))
    cosine = float(out @ ref) / (out_norm * ref_norm) if out_norm and ref_norm else float(out_norm == ref_norm)
    return Difference(
        max_abs=float(error.max(initial=0.0)),
        relative_l2=float(np.linalg.norm(error)) / (max(ref_norm, scale) or 1.0),
        cosine=min(cosine, 1.0),
        finite=True,
    )
