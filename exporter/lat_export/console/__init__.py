"""How results look in a terminal."""

from lat_export.console.dry_runs import print_dry_run
from lat_export.console.facts import (
    describe_forms,
    print_answer,
    print_bench,
    print_bundle,
    print_findings,
    print_lat_nodes,
    print_onnx,
    print_plugins,
)
from lat_export.console.reports import MANY_ROWS, print_report, print_search
from lat_export.console.terminal import print_error, size, tell

__all__ = [
    "MANY_ROWS",
    "describe_forms",
    "print_answer",
    "print_bench",
    "print_bundle",
    "print_dry_run",
    "print_error",
    "print_findings",
    "print_lat_nodes",
    "print_onnx",
    "print_plugins",
    "print_report",
    "print_search",
    "size",
    "tell",
]
