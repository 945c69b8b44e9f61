"""What can be measured, a file each. `SUBJECTS` holds every kind by its name."""

from __future__ import annotations

import sys

from lat_export.bench.subjects.contract import Opened, SubjectKind
from lat_export.registry import discover

SUBJECTS: dict[str, SubjectKind] = discover(sys.modules[__name__], "SUBJECT", "name")

__all__ = ["SUBJECTS", "Opened", "SubjectKind"]
