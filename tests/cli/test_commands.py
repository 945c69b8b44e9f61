"""What the commands print, and how fast they answer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from conftest import ROOT
from forked import lat_export, started

from lat_export import cli as cli_module
from lat_export.divergence import FORMS
from lat_export.pipeline import Exported
from lat_export.targets import TARGETS
from lat_export.validation.tolerance import RELATIVE_L2

Export = Callable[..., Exported]
COMMANDS = (
    "model",
    "validate",
    "bench",
    "refit",
    "run",
    "bundle",
    "inspect",
    "doctor",
    "golden make",
    "golden check",
    "golden to-polygraphy",
    "golden from-polygraphy",
    "plugins build",
    "plugins list",
    "plugins path",
)


def run(*command: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload, no-any-return]


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        assert started("--help").returncode == 0
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.3
    heavy = {"torch", "transformers", "onnx", "onnxruntime", "numpy", "rich"}
    code = f"import sys, lat_export.cli; print({heavy} & set(sys.modules))"
    assert run(sys.executable, "-c", code).stdout.strip() == "set()"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = started(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage:")


def test_commands_are_all_known_here() -> None:
    names = []
    for name, command in cli_module.cli.commands.items():
        names += [f"{name} {sub}" for sub in command.commands] if isinstance(command, click.Group) else [name]
    assert sorted(names) == sorted(COMMANDS)


def test_target_names_are_the_registry() -> None:
    assert sorted(cli_module.TARGET_NAMES) == sorted(TARGETS)
    assert tuple(RELATIVE_L2) == cli_module.PRECISIONS
    assert cli_module.SEARCHED == FORMS


def test_launcher_of_a_checkout_is_the_command(tmp_path: Path) -> None:
    done = run(sys.executable, ROOT / "cli.py", "--version", cwd=tmp_path)
    assert done.stdout == started("--version").stdout
    assert done.returncode == 0


def test_a_checkout_builds_engines_with_its_own_code(checkpoint: Path, tmp_path: Path) -> None:
    """Not with an installed package: the child that builds must import what the parent runs."""
    shutil.copytree(
        ROOT / "exporter", tmp_path / "exporter", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    shutil.copy(ROOT / "cli.py", tmp_path)
    builder = tmp_path / "exporter" / "lat_export" / "targets" / "tensorrt_build.py"
    builder.write_text(builder.read_text().replace('"version": trt.__version__', '"version": "of the copy"'))
    out = tmp_path / "out"
    done = run(
        sys.executable, tmp_path / "cli.py", "model", checkpoint, "--to", "trt-rtx", "--out", out, "--no-validate"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "manifest.json").read_text())["build"]["tensorrt_rtx"] == "of the copy"


def test_validate_and_inspect_need_no_pytorch(exported: Export) -> None:
    folder = exported("question-answering", "trt-rtx").bundle.folder
    for command in ("validate", "inspect"):
        code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["lat-export", {command!r}, {str(folder)!r}]
from lat_export.cli import main
main()
"""
        done = run(sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr


def test_missing_package_is_exit_code_3() -> None:
    code = "import sys; sys.modules['torch'] = None; import lat_export.cli as c; c.main()"
    done = run(sys.executable, "-c", code, "model", "golden", "--to", "onnx", "--out", "unused", cwd=ROOT)
    assert done.returncode == 3
    assert "the Python package torch is missing" in done.stderr


def test_paths_with_brackets_are_printed_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    done = lat_export("model", checkpoint, "--to", "onnx", "--out", tmp_path / "[v2]" / "b", "--no-validate")
    assert done.returncode == 0, done.stderr
    assert "[v2]" in done.stdout


def test_options_without_use_are_told(checkpoint: Path, tmp_path: Path) -> None:
    done = lat_export(
        "model", checkpoint, "--to", "onnx", "--out", tmp_path / "o", "--max-global", "3", "--no-validate"
    )
    assert "warning: --max-global: only engines have such limits" in done.stderr


def test_json_is_on_stdout_alone(checkpoint: Path, tmp_path: Path) -> None:
    done = started("model", checkpoint, "--to", "onnx", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["manifest"]["target"] == "onnx"
    assert data["report"]["subjects"][0]["verdict"] == "passed"
    assert "trace done in" in done.stderr


def test_table_names_every_output_and_case(checkpoint: Path, tmp_path: Path) -> None:
    done = lat_export("model", checkpoint, "--to", "onnx", "--out", tmp_path / "out")
    assert "output" in done.stdout
    assert "relative L2" in done.stdout
    assert "cosine" in done.stdout
    for output in ("start_logits", "end_logits"):
        assert f"{output}" in done.stdout
    assert "B=1 N=256 padding=none globals=scattered" in done.stdout
    assert "6 lat nodes: 6 body" in done.stdout


def test_manifest_has_what_the_bundle_holds(exported: Export) -> None:
    bundle = exported("question-answering", "trt-rtx").bundle
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    assert manifest["schema"] == 1
    files = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "manifest.json.sha256"}
    for name, entry in manifest["files"].items():
        content = (bundle.folder / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
    roles = {name: entry["role"] for name, entry in manifest["files"].items()}
    assert roles["model.onnx"] == "model"
    assert roles["model.trt-rtx.engine"] == "engine"
    assert roles["tokenizer/tokenizer.json"] == "tokenizer"
    assert roles["golden.safetensors"] == "golden"
    assert manifest["precision"] == "fp32"
    assert manifest["semantics"] == manifest["options"]["semantics"] == "hf"
    plan = manifest["plan"]
    assert plan["sizes"] == {"batch": "1:1:8", "sequence": "1:256:256"}
    assert plan["max_global"] == 64
    assert {"torch", "transformers", "onnx", "onnxruntime"} <= set(manifest["versions"])
    assert set(manifest["forms"].values()) == {"body"}
    assert str(ROOT) not in json.dumps(manifest)


def test_sha256sum_checks_the_manifest(exported: Export) -> None:
    done = run("sha256sum", "--check", "manifest.json.sha256", cwd=exported("question-answering").bundle.folder)
    assert done.returncode == 0


def test_inspect_of_a_bundle_and_of_a_file(exported: Export) -> None:
    folder = exported("question-answering", "trt-rtx").bundle.folder
    text = started("inspect", folder).stdout
    for words in (
        "lat::BandedWindowAttention",
        "dynamic axes: batch, sequence",
        "layer.2.GlobalTokenAttention",
        "body",
    ):
        assert words in text
    data = json.loads(lat_export("inspect", folder / "model.onnx", "--json").stdout)
    assert data["onnx"]["parameters"] > 10_000
    assert data["manifest"] is None


def test_doctor_names_what_is_missing_and_how_to_get_it() -> None:
    done = started("doctor", "--json")
    assert done.returncode == 0
    findings = {row["part"]: row for row in json.loads(done.stdout)}
    assert findings["torch"]["state"] != "missing"
    assert all(row["advice"] for row in findings.values() if row["state"] == "missing")
    assert {"onnxruntime", "TensorRT", "TensorRT-RTX", "NVIDIA GPU", "polygraphy"} <= set(findings)
    table = lat_export("doctor").stdout
    assert all(part in table for part in findings)


def test_pooler_that_the_checkpoint_lacks_is_left_out_with_a_warning(tmp_path: Path) -> None:
    """A fill-mask checkpoint has no pooler; a random one would be silently wrong."""
    fill_mask = ROOT / "golden" / "longformer" / "fill-mask" / "checkpoint"
    done = lat_export(
        "model", fill_mask, "--task", "feature-extraction", "--to", "onnx", "--out", tmp_path / "out", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "warning: checkpoint has no pooler weights: pooler_output is left out" in done.stderr
    names = [output["name"] for output in json.loads(done.stdout)["manifest"]["signature"]["outputs"]]
    assert names == ["last_hidden_state"]


def test_bug_of_ours_is_called_one(tmp_path: Path) -> None:
    code = "import lat_export.doctor as d, lat_export.cli as c; d.examine = lambda: 1 / 0; c.main()"
    done = run(sys.executable, "-c", code, "doctor", env={**os.environ})
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
    assert "This is a bug in lat-export" in done.stderr
