"""Graphs of eight layers, and faults to plant in them: tests/conftest.py loads the fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
from families.small_checkpoint import small_checkpoint

from lat_export.divergence import Search, search
from lat_export.pipeline import export
from lat_export.types import ModelSpec
from lat_export.validation.golden import Golden
from lat_export.validation.report import Divergence

LAYERS = 8
FAMILIES = {
    "longformer": {"attention_window": [8] * LAYERS},
    "yoso": {},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 64, "conv_kernel_size": 5},
}
Made = Callable[[str], Path]


@pytest.fixture(scope="session")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """`layered(family)`: a folder with `checkpoint` and, of it, `bundle`."""
    folders: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp(family)
            small_checkpoint(folder / "checkpoint", family, num_hidden_layers=LAYERS, **FAMILIES[family])
            export(ModelSpec(str(folder / "checkpoint"), "onnx", folder / "bundle"))
            folders[family] = folder
        return folders[family]

    return get


def node_named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def weight_changed(name: str) -> Callable[[ir.Model], None]:
    """One number of the weight that a node takes."""

    def change(model: ir.Model) -> None:
        node = node_named(model, name)
        weight = next(value for value in node.inputs if value.const_value is not None)
        array = weight.const_value.numpy().copy()
        array.flat[array.size // 2] += 0.5
        own = ir.Value(name=f"changed {name}", const_value=ir.tensor(array), shape=weight.shape, type=weight.type)
        model.graph.register_initializer(own)  # the exporter shares weights that are alike
        node.replace_input_with(list(node.inputs).index(weight), own)

    return change


def attribute_changed(name: str, attribute: str, by: int) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        node = node_named(model, name)
        node.attributes[attribute] = ir.AttrInt64(attribute, node.attributes[attribute].as_int() + by)

    return change


def search_of(broken: Path, other: Path, golden: Path, **options: object) -> Divergence:
    found = search(broken, Golden(golden), Search(other, **options)).divergence  # type: ignore[arg-type]
    assert found is not None
    return found
