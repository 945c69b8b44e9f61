"""How results look in a terminal."""

from lat_export.console.deployments import print_deployment
from lat_export.console.documents import documents_progress, print_documents
from lat_export.console.dry_runs import print_dry_run
from lat_export.console.engines import print_engine
from lat_export.console.facts import (
    describe_forms,
    print_answer,
    print_bench,
    print_bundle,
    print_findings,
    print_lat_nodes,
    print_onnx,
    print_plugin_files,
    print_plugins,
)
from lat_export.console.reports import MANY_ROWS, print_report, print_search
from lat_export.console.terminal import print_error, size, tell

__all__ = [
    "MANY_ROWS",
    "describe_forms",
    "documents_progress",
    "print_answer",
    "print_bench",
    "print_bundle",
    "print_deployment",
    "print_documents",
    "print_dry_run",
    "print_engine",
    "print_error",
    "print_findings",
    "print_lat_nodes",
    "print_onnx",
    "print_plugin_files",
    "print_plugins",
    "print_report",
    "print_search",
    "size",
    "tell",
]
