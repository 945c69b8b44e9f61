"""Refusals, as Triton's python backend wants them."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from lat_export.errors import LatExportError


def refusal(error: LatExportError) -> Any:
    """A response that tells the client what is wrong with its request."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))


def failure(error: BaseException) -> Any:
    """A response that says that the server failed, not the client."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"))
