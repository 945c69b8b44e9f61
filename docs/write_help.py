"""Writes the help of every command into its page, between the comments that say so.

python docs/write_help.py
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from lat_export.cli.program import cli

WIDTH = 100
PLACE = re.compile(r"<!-- begin: help -->.*?<!-- end: help -->", re.DOTALL)


def texts(path: tuple[str, ...], command: click.Command, parent: click.Context) -> list[str]:
    """Help of a command, and of its own commands."""
    context = click.Context(command, parent=parent, info_name=path[-1], terminal_width=WIDTH, max_content_width=WIDTH)
    found = [command.get_help(context)]
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        found += texts((*path, name), inner, context)
    return found


def with_help(name: str, page: str) -> str:
    """The page with the help that the program has now."""
    program = click.Context(cli, info_name="lat-export", **cli.context_settings)
    blocks = [f"```text\n{text}\n```" for text in texts((name,), cli.commands[name], program)]
    whole = "\n\n".join(("<!-- begin: help -->", *blocks, "<!-- end: help -->"))
    return PLACE.sub(lambda _: whole, page)


if __name__ == "__main__":
    for path in sorted((Path(__file__).parent / "commands").glob("*.md")):
        path.write_text(with_help(path.stem, path.read_text()))
