"""How every session of onnxruntime is opened, here and in what is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

SEVERITY_ERROR = 3


def default_options() -> onnxruntime.SessionOptions:
    """What suits a model that takes documents of every length; threads and their spinning are onnxruntime's own
    defaults, one a core, which is best for one document at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    # Plans of memory are for shapes that come again: for each length they keep one more block, 90 MB of 300 MB over ten
    # lengths up to 2048 of a full-size Longformer, and save no time that could be measured.
    options.enable_mem_pattern = False
    return options
