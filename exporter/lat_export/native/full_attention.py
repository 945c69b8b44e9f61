"""The kernel of lat::FullAttention: plugins/full_attention/kernel.h."""

from __future__ import annotations

from lat_export.native.abi import Structure, fields
from lat_export.native.kernel import Kernel


class Arguments(Structure):
    _fields_ = tuple(fields("taps", rows="query key value", pointers="conv_weight"))


KERNEL = Kernel("FullAttention", Arguments, lambda inputs: {"taps": inputs["conv_weight"].shape[1]})
