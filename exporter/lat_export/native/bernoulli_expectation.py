"""The kernel of lat::BernoulliExpectation: plugins/bernoulli_expectation/kernel.h."""

from __future__ import annotations

from lat_export.native.abi import Structure, fields
from lat_export.native.kernel import Kernel


class Arguments(Structure):
    _fields_ = tuple(fields("hash_code_len", rows="query key value", pointers=""))


KERNEL = Kernel("BernoulliExpectation", Arguments)
