"""What many commands print: JSON and reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lat_export.console import print_report

if TYPE_CHECKING:
    from lat_export.validation.report import Report


def show_report(report: Report, as_json: bool, rest: str) -> None:
    """`rest` is where to find the rows that are not printed."""
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report, rest)


def print_json(data: Any) -> None:
    click.echo(json_text(data))


def json_text(data: Any) -> str:
    return json.dumps(data, indent=1, allow_nan=False)
