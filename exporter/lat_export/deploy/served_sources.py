"""Python files of this package as a server takes them: `model.py` and, beside it, all of ours that it imports.

They are copies, under another package name, so that the server needs no lat-export and no version of it interferes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from lat_export import __version__

OURS = "lat_export"
SERVED = "lat_serving"
PACKAGE = Path(__file__).resolve().parents[1]
IMPORT = re.compile(rf"^(\s*from ){OURS}\b", re.MULTILINE)


def write_served(module: str, folder: Path) -> None:
    """
    Args:
        module: in dots, from this package's top: "serving.triton_text" becomes `folder/model.py`.
    """
    (folder / "model.py").write_text(_renamed(module))
    for name in sorted(_closure(module) - {module}):
        path = folder / SERVED / _file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_renamed(name))
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").write_text(f'"""Copied from lat-export {__version__}."""\n')


def _file(module: str) -> Path:
    return Path(*module.split(".")).with_suffix(".py")


def _renamed(module: str) -> str:
    return IMPORT.sub(rf"\1{SERVED}", (PACKAGE / _file(module)).read_text())


def _closure(module: str) -> set[str]:
    """A module and those of this package that it imports when it runs, and so on."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(ast.parse((PACKAGE / _file(name)).read_text()))
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{OURS}."):
            yield node.module.removeprefix(f"{OURS}.")
