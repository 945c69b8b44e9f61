"""The wheel, with native ops where the checkout has built them and pure where it has not, installed and asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import GOLDEN, ROOT

from lat_export import native

NATIVE_FOLDER = "lat_export/_native/"


def wheel_of(checkout: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    options = ["--disable-pip-version-check", "--wheel-dir", str(checkout / "dist"), str(checkout)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (checkout / "dist").glob("*.whl")
    return wheel


def installed(wheel: Path, site: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def run(site: Path, *words: str) -> str:
    """`lat-export` of that installation, and of nothing else."""
    environment = {name: value for name, value in os.environ.items() if name != native.FOLDER_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-m", "lat_export", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=site,
        env={**environment, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def doctor(site: Path) -> dict[str, str]:
    (finding,) = [found for found in json.loads(run(site, "doctor", "--json")) if found["part"] == "native ops"]
    return finding


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is made of; nothing is built in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "exporter", folder / "exporter", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def test_without_a_build_it_is_pure_and_runs_bodies(checkout: Path, tmp_path: Path) -> None:
    wheel = wheel_of(shutil.copytree(checkout, tmp_path / "checkout"))
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(NATIVE_FOLDER)]
    assert {"lat_export/validation/report.css", "lat_export/validation/report.schema.json"} <= set(names)
    site = installed(wheel, tmp_path / "site")
    finding = doctor(site)
    assert finding["state"] == "missing"
    assert "runs as its ONNX function body" in finding["enables"]
    checkpoint = GOLDEN / "yoso" / "text-classification" / "checkpoint"
    told = run(site, "model", str(checkpoint), "--to", "ort", "--out", str(tmp_path / "out"))
    assert "native ops: missing: every lat node runs as its ONNX function body" in told
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["environment"]["native ops"].startswith("missing")
    forms = [form for subject in report["subjects"] for form in subject["forms"].values()]
    assert forms
    assert set(forms) == {"body"}


def test_with_a_build_it_holds_the_libraries_and_runs_them(
    checkout: Path, plugins: native.Plugins, tmp_path: Path
) -> None:
    here = shutil.copytree(checkout, tmp_path / "checkout")
    built = [native.KERNELS_LIBRARY, native.ORT_LIBRARY, native.CONTENTS]
    built = [name for name in built if (plugins.folder / name).is_file()]
    (here / "build" / "plugins").mkdir(parents=True)
    for name in built:
        shutil.copy(plugins.folder / name, here / "build" / "plugins")
    (here / "build" / "plugins" / "build.ninja").write_text("not for the wheel")
    wheel = wheel_of(here)
    assert "-py3-none-linux_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name for name in names if name.startswith(NATIVE_FOLDER)) == sorted(NATIVE_FOLDER + n for n in built)
    site = installed(wheel, tmp_path / "site")
    listed = json.loads(run(site, "plugins", "list", "--json"))
    assert (listed["folder"], listed["unusable"]) == (str(site / NATIVE_FOLDER.rstrip("/")), None)
    finding = doctor(site)
    if native.ORT_LIBRARY in built:
        assert finding["state"].startswith(f"{len(plugins.onnxruntime)} of ")
    else:
        assert finding["state"] == "missing"
