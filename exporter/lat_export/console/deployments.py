"""What a deployment holds and how to start it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.console.terminal import out, size, table, tell, whole_lines

if TYPE_CHECKING:
    from lat_export.deploy import Deployment


def print_deployment(deployment: Deployment) -> None:
    """Models with what they take, size, and notes; the command that serves it goes to stderr."""
    manifest = deployment.manifest
    inside = f"{manifest['repository']}/" if "repository" in manifest else ""
    sizes = {
        name: sum(entry["bytes"] for file, entry in manifest["files"].items() if file.startswith(f"{inside}{name}/"))
        for name in manifest["models"].values()
    }
    out(
        f"\n{deployment.folder}: {manifest['bundle']['family']}, {manifest['bundle']['task']}, "
        f"for {manifest['format']}, {manifest['backend']} backend",
        table(
            ("model", "takes", "size"),
            ((name, takes, size(sizes[name])) for takes, name in manifest["models"].items()),
            ("size",),
        ),
    )
    whole_lines(["", *(f"- {note}" for note in manifest["notes"])])
    tell(f"next: {manifest['start']}")
