"""The kernel of lat::BandedWindowAttention: plugins/banded_window_attention/kernel.h."""

from __future__ import annotations

from lat_export.native.abi import Structure, fields
from lat_export.native.kernel import Kernel


class Arguments(Structure):
    _fields_ = tuple(fields("window", rows="query key value", pointers="", scale=True, integers="allow_tf32"))


KERNEL = Kernel("BandedWindowAttention", Arguments)
