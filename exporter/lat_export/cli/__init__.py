"""The command line: arguments, printing, exit codes. Everything else is imported when a command needs it."""

from lat_export.cli.options import PRECISIONS, SEARCHED, TARGET_NAMES
from lat_export.cli.program import cli, main

__all__ = ["PRECISIONS", "SEARCHED", "TARGET_NAMES", "cli", "main"]
