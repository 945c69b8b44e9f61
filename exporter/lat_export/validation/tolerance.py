"""How far an output may be from PyTorch's. A tolerance is loosened only here, with a reason."""

from __future__ import annotations

# Relative L2 error |out - ref| / |ref| of one output, by precision.
RELATIVE_L2 = {"fp32": 1e-5}

# Sampled attention: where the reference with its queries and keys moved by 64 roundings is further from itself than the
# tolerance, hash codes flip, and this many times that distance passes. Flips in one layer make more in the next, so the
# distance grows more slowly than the move: PyTorch and onnxruntime were 0.3 of it apart at 512 tokens and 12 layers of
# full size, 0.6 at 1024.
FLIP_MARGIN = 2.0

# An output of at most this many numbers (the logit of a regression, the scores of two choices) can come out near zero
# by cancellation, where no float32 program keeps a relative error. Its error is measured against the usual norm of
# that output over the table of cases, or its own norm where that is larger.
FEW_NUMBERS = 32
