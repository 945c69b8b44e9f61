"""The kernel of lat::GlobalTokenAttention: plugins/global_token_attention/kernel.h."""

from __future__ import annotations

from lat_export.native.abi import Structure, fields
from lat_export.native.kernel import Kernel

# lat_global_token_form: the kernel takes the cheaper form for each row of the batch.
BY_COST = 0
WEIGHTS = "query_weight query_bias key_weight value_weight value_bias"


class Arguments(Structure):
    _fields_ = tuple(fields("", rows="hidden_states", pointers=WEIGHTS, scale=True, integers="form"))


KERNEL = Kernel("GlobalTokenAttention", Arguments, lambda inputs: {"form": BY_COST})
