"""What a deployment holds and how to start it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lat_export.console.terminal import out, size, table, tell, whole_lines

if TYPE_CHECKING:
    from lat_export.deploy import Deployment


def print_deployment(deployment: Deployment) -> None:
    """What is in it, size, and notes; the command that comes next goes to stderr."""
    manifest = deployment.manifest
    if "models" in manifest:
        _print_models(deployment)
    else:
        _print_parts(deployment)
    whole_lines(["", *(f"- {note}" for note in manifest["notes"])])
    tell(f"next: {manifest['start']}")


def _print_models(deployment: Deployment) -> None:
    """With what they take."""
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


def _print_parts(deployment: Deployment) -> None:
    """Files and folders at the top."""
    manifest = deployment.manifest
    sizes: dict[str, int] = {}
    for file, entry in manifest["files"].items():
        part = file.partition("/")[0] + "/" * ("/" in file)
        sizes[part] = sizes.get(part, 0) + entry["bytes"]
    model = f"{manifest['bundle']['family']}, {manifest['bundle']['task']}"
    out(
        f"\n{deployment.folder}: {model}, for {manifest['format']}, {manifest['platform']}",
        table(("part", "size"), ((name, size(sizes[name])) for name in sorted(sizes)), ("size",)),
    )
