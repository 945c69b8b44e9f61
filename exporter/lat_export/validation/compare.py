"""Distance of one output from its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Decades of the error over the reference's root mean square: below 1e-12 (zero included), then up to 1e-11, ..., 1,
# and above 1.
HISTOGRAM_DECADES = tuple(range(-12, 1))


@dataclass(frozen=True)
class Difference:
    """
    Attributes:
        max_abs: largest absolute error.
        p99_abs: 99th percentile of the absolute error.
        relative_l2: |out - ref| / |ref| in L2; the denominator is at least `scale`, and 1 where both are zero.
        cosine: cosine of the angle between the two; 1 where both are zero.
        max_ulp: largest error in units of the last place of the output's dtype, at the reference's value or, where that
            is smaller, at its root mean square (at 1 where all of it is zero).
        nan: how many NaN the output has.
        inf: how many infinities.
        histogram: how many errors fall below, between and above `HISTOGRAM_DECADES`.
    """

    max_abs: float
    p99_abs: float
    relative_l2: float
    cosine: float
    max_ulp: float
    nan: int = 0
    inf: int = 0
    histogram: tuple[int, ...] = ()

    @property
    def finite(self) -> bool:
        return not (self.nan or self.inf)


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
    nan, inf = count_not_finite(output)
    if nan or inf:
        return not_comparable(nan, inf)
    if not out.size:
        return Difference(0.0, 0.0, 0.0, 1.0, 0.0, histogram=(0,) * (len(HISTOGRAM_DECADES) + 1))
    error = np.abs(out - ref)
    out_norm, ref_norm = float(np.linalg.norm(out)), float(np.linalg.norm(ref))
    cosine = float(out @ ref) / (out_norm * ref_norm) if out_norm and ref_norm else float(out_norm == ref_norm)
    usual = ref_norm / ref.size**0.5
    return Difference(
        max_abs=float(error.max()),
        p99_abs=float(np.percentile(error, 99)),
        relative_l2=float(np.linalg.norm(error)) / (max(ref_norm, scale) or 1.0),
        cosine=min(cosine, 1.0),
        max_ulp=float((error / _ulp(np.maximum(np.abs(ref), usual or 1.0), output.dtype)).max()),
        histogram=_histogram(error / (usual or 1.0)),
    )


def count_not_finite(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """How many NaN and how many infinities."""
    import numpy as np

    return int(np.isnan(array).sum()), int(np.isinf(array).sum())


def not_comparable(nan: int = 0, inf: int = 0) -> Difference:
    """Of an output with NaN or infinities, or of another shape: as far off as can be."""
    endless = float("inf")
    return Difference(endless, endless, endless, 0.0, endless, nan, inf)


def _ulp(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Distance from each positive value to the next one of `dtype`; of float32 where `dtype` holds whole numbers."""
    import numpy as np

    floating = dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float32)
    spacing: np.ndarray[Any, Any] = np.spacing(values.astype(floating)).astype(np.float64)
    return spacing


def _histogram(ratio: np.ndarray[Any, Any]) -> tuple[int, ...]:
    import numpy as np

    edges = np.array([0.0, *(10.0**decade for decade in HISTOGRAM_DECADES), np.inf])
    return tuple(int(count) for count in np.histogram(ratio, edges)[0])
