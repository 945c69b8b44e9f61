"""What a dry run finds: a rule that the graph breaks, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from lat_export.errors import LatExportError

# An error ends the build; a warning may, or costs something; a note is good to know.
ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        severity: of `SEVERITIES`.
        rule: its name, a few words.
        what: one sentence.
        node: name of the node; "" where it is about the graph, the profile or the machine.
        mend: what to do.
    """

    severity: str
    rule: str
    what: str
    node: str = ""
    got: str = ""
    expected: str = ""
    mend: str = ""

    @classmethod
    def of(cls, error: LatExportError, severity: str, rule: str, node: str = "", mend: str = "") -> Finding:
        """An error of ours, as a finding."""
        return cls(severity, rule, error.what, node, error.got or "", error.expected or "", mend or error.hint or "")

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
