"""The house itself: registries are whole, floors hold, the README is true."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from conftest import GOLDEN, ROOT
from meta.pages import blocks, commands, words_of

from lat_export.families import FAMILIES
from lat_export.ops import OPS
from lat_export.tasks import TASKS

PACKAGE = ROOT / "exporter" / "lat_export"
README = (ROOT / "README.md").read_text()
COMMANDS = [line for block in blocks(README) if block.language == "bash" for line in commands(block.text)]


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_all_its_parts(name: str) -> None:
    op = OPS[name]
    stem = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    assert (PACKAGE / "ops" / f"{stem}.py").is_file()
    assert op.function().name == name
    assert {a.name for a in op.attributes} <= set(op.function().attributes)
    assert [value.name for value in op.function().inputs] == [port.name for port in op.inputs]
    documented = ast.get_docstring(ast.parse((PACKAGE / "ops" / f"{stem}.py").read_text()))
    assert documented
    assert "Source:" in documented
    named = [path for path in (ROOT / "tests" / "ops").glob("test_*.py") if name in path.read_text()]
    assert named, f"no test in tests/ops names {name}"


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_has_goldens_and_tests(model_type: str) -> None:
    assert (ROOT / "tests" / "families" / f"test_{model_type}.py").is_file()
    assert (GOLDEN / model_type / "recipe.json").is_file()
    for task in TASKS:
        assert (GOLDEN / model_type / task / "golden.safetensors").is_file()


def test_a_family_is_added_without_editing_a_file(tmp_path: Path) -> None:
    """A copy of the package with three new files: the registries find them, and nothing else changed."""
    package = Path(shutil.copytree(PACKAGE, tmp_path / "lat_export", ignore=shutil.ignore_patterns("__pycache__")))
    banded = (package / "ops" / "banded_window_attention.py").read_text()
    (package / "ops" / "foo_attention.py").write_text(
        banded.replace('name="BandedWindowAttention"', 'name="FooAttention"')
    )
    family = (package / "families" / "longformer.py").read_text()
    (package / "families" / "foo.py").write_text(family.replace('model_type = "longformer"', 'model_type = "foo"'))
    kernel = (package / "native" / "banded_window_attention.py").read_text()
    (package / "native" / "foo_attention.py").write_text(kernel.replace("BandedWindowAttention", "FooAttention"))
    code = """
from lat_export import families, native, ops, torch_ops
import torch
torch_ops.define()
print('FooAttention' in ops.OPS, 'foo' in families.FAMILIES, native.KERNELS['FooAttention'].entry)
print(torch.ops.lat.foo_attention.default._schema.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True", "lat_foo_attention_cpu", "lat::foo_attention"], done.stderr


def test_there_is_one_conftest() -> None:
    """Another one, anywhere, takes its name: `from conftest import ROOT` then fails in some order of the files."""
    assert list((ROOT / "tests").rglob("conftest.py")) == [ROOT / "tests" / "conftest.py"]


def test_heavy_libraries_are_imported_inside_functions() -> None:
    """In floors that the command line reaches; families are PyTorch through and through."""
    heavy = {"torch", "transformers", "tensorrt", "tensorrt_rtx", "onnxruntime"}
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "families":
            continue
        for node in ast.parse(path.read_text()).body:
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not {name.partition(".")[0] for name in names} & heavy, path


def test_no_path_of_a_machine_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pattern = re.compile("/" + "(work|root|home)" + "/")
    found = [
        name
        for name in tracked
        if name.endswith((".py", ".md", ".toml", ".json", "Makefile", "run"))
        and pattern.search((ROOT / name).read_text())
    ]
    assert found == []


def test_links_of_the_readme_work() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def support_table() -> str:
    """The README's table of tasks and outputs, from the registries."""
    families = [FAMILIES[name] for name in sorted(FAMILIES)]
    lines = [
        "| task | " + " | ".join(family.class_prefix for family in families) + " |",
        "|---" * (len(families) + 1) + "|",
    ]
    for task in TASKS.values():
        cells = [
            ", ".join(f"`{name}`" for name, _ in task.outputs if family.has_pooler or name != "pooler_output")
            for family in families
        ]
        lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_support_table_is_what_the_registries_say() -> None:
    """The exports themselves are tested for every cell of it in tests/families."""
    assert support_table() in README


def test_the_readme_names_both_set_up_commands() -> None:
    assert "make demo" in COMMANDS
    assert "make test" in COMMANDS


def test_commands_of_the_readme_work(tmp_path: Path) -> None:
    """In order, in a copy of the checkout, each in a process of its own; set-up is done already, and the tests do not
    run themselves."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    ran = 0
    for command in COMMANDS:
        words = words_of(command)
        ours = shlex.split(command)
        if command == "make demo":
            words = ["make", "demo", "--old-file=.venv/ready"]  # the environment is the one that runs this test
        if words is None:
            continue
        if ours[0] == "lat-export":
            done = forked.lat_export(*ours[1:], cwd=tmp_path)
        else:
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran += 1
    assert ran >= 6
