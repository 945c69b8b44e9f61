"""The kernel of lat::LshCumulation: plugins/lsh_cumulation/kernel.h."""

from __future__ import annotations

from lat_export.native.abi import Structure, fields
from lat_export.native.kernel import Kernel


class Arguments(Structure):
    _fields_ = tuple(fields("num_hash hash_code_len", rows="query key value", pointers="projection"))


KERNEL = Kernel("LshCumulation", Arguments)
