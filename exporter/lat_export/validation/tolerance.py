"""How far an output may be from PyTorch's. A tolerance is loosened only here, with a reason."""

from __future__ import annotations

# Relative L2 error |out - ref| / |ref| of one output, by precision.
RELATIVE_L2 = {"fp32": 1e-5}
