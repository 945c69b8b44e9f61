"""How far an output may be from PyTorch's. A tolerance is loosened only here, with a reason."""

from __future__ import annotations

# Relative L2 error |out - ref| / |ref| of one output, by precision.
RELATIVE_L2 = {"fp32": 1e-5}

# An output of at most this many numbers (the logit of a regression, the scores of two choices) can come out near zero
# by cancellation, where no float32 program keeps a relative error. Its error is measured against the usual norm of
# that output over the table of cases, or its own norm where that is larger.
FEW_NUMBERS = 32
