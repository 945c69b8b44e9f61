"""The kernel of lat::NystromAttention: plugins/nystrom_attention/kernel.h."""

from __future__ import annotations

from lat_export.native.abi import Structure, fields
from lat_export.native.kernel import Kernel


class Arguments(Structure):
    _fields_ = tuple(
        fields("num_landmarks taps", rows="query key value", pointers="conv_weight", integers="per_head_init")
    )


KERNEL = Kernel("NystromAttention", Arguments, lambda inputs: {"taps": inputs["conv_weight"].shape[1]})
