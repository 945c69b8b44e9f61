"""How an engine looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lat_export.console.terminal import out, size, table, whole_lines

if TYPE_CHECKING:
    from lat_export.engine_inspection import EngineFacts


def print_engine(facts: EngineFacts) -> None:
    """Everything but the list of all layers, which --json has."""
    out(f"\n{facts.path.name}: {facts.library}, {size(facts.file_bytes)}")
    whole_lines([f"told by {', and by '.join(facts.told_by)}"])
    rows = [(one["name"], one["is"], str(one["dtype"]).lower(), _shape(one["shape"])) for one in facts.bindings]
    out("", table(("binding", "is", "type", "shape"), rows))
    whole_lines(["", *(f"profile {index}: {_profile(profile)}" for index, profile in enumerate(facts.profiles))])
    if facts.options:
        whole_lines([f"built with: {', '.join(f'{name}={value}' for name, value in facts.options.items())}"])
    whole_lines([f"lat nodes that plugins run: {', '.join(facts.plugins) or 'none'}"])
    memory = ", ".join(f"{name.lower()} {size(count)}" for name, count in facts.memory.items())
    whole_lines([f"memory: {memory or 'not known'}"])
    if facts.layers:
        counts = [(kind, precision, str(count)) for kind, precision, count in facts.layers_by_precision]
        out(
            f"\n{len(facts.layers)} layers, {facts.layers_are}:",
            table(("layer", "precision", "count"), counts, ("count",)),
        )
    else:
        whole_lines(["layers: not known: this bundle kept none"])


def _shape(shape: list[Any]) -> str:
    return " x ".join("any" if size == -1 else str(size) for size in shape) or "one number"


def _profile(profile: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value if isinstance(value, str) else _range(value)}" for name, value in profile.items())


def _range(shapes: list[list[int]]) -> str:
    """Smallest, usual and largest shape."""
    return " to ".join("x".join(map(str, shape)) for shape in (shapes[0], shapes[-1]))
