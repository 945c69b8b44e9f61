"""`lat-export doctor`."""

from __future__ import annotations

import sys

import click

from lat_export.cli.output import print_json
from lat_export.console import print_findings
from lat_export.errors import EXIT_MISSING


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(as_json: bool) -> None:
    """Show what is installed, what is missing, what that would enable, and how to get it."""
    from lat_export.doctor import examine

    findings = examine()
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_findings(findings)
    if any(finding.required and not finding.present for finding in findings):
        sys.exit(EXIT_MISSING)
