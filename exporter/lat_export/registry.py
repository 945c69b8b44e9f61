"""Finds the parts of a package by looking into it: a new file is a new part, and no list is edited."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def discover(package: ModuleType, constant: str, key: str) -> dict[str, Any]:
    """Every object called `constant` at the top of a module of `package`, by its attribute `key`.

    Raises:
        RuntimeError: two modules register one name.
    """
    found: dict[str, Any] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if constant not in vars(module):
            continue
        part = getattr(module, constant)
        name = getattr(part, key)
        if name in found:
            raise RuntimeError(f"{package.__name__} has two parts called {name!r}")
        found[name] = part
    return found
