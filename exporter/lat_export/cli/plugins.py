"""`lat-export plugins`: build, list, path."""

from __future__ import annotations

import click

from lat_export.cli.output import print_json
from lat_export.console import print_plugins, tell


@click.group()
def plugins() -> None:
    """Build, list and find the native forms of the lat ops."""


@plugins.command("build")
def plugins_build() -> None:
    """Compile the native ops of this checkout into build/plugins; needs cmake, ninja and a C++17 compiler."""
    from lat_export.native import build

    print_plugins(build(tell))


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def plugins_list(as_json: bool) -> None:
    """Show every op: its forms, element types and instruction sets, and what was left out."""
    from lat_export.native import plugins

    found = plugins()
    if as_json:
        facts = {"folder": str(found.folder), "unusable": found.unusable and str(found.unusable)} if found else {}
        print_json({**vars(found), **facts} if found else None)
    else:
        print_plugins(found)


@plugins.command("path")
def plugins_path() -> None:
    """Print the library that SessionOptions.register_custom_ops_library takes."""
    from lat_export.native import demand_ort_library

    click.echo(demand_ort_library())
