"""Libraries of another version of the C ABI than the package's are not used, and everyone who asks is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN, ROOT

from lat_export import native
from lat_export.errors import MissingError
from lat_export.pipeline import export
from lat_export.types import ModelSpec
from lat_export.validation.report import PASSED

# Version 0 stands for a library without the symbol, as those before the handshake are.
OTHER_VERSIONS = {0: "without a version", native.ABI_VERSION + 1: f"of version {native.ABI_VERSION + 1}"}
WHAT = "the native ops were built for another version of lat-export"


@pytest.fixture(scope="module", params=OTHER_VERSIONS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of libraries of another version, and what is said of it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp(f"version{request.param}")
    source = f"int lat_abi_version(void) {{ return {request.param}; }}" if request.param else "int lat_other;"
    (folder / "fake.c").write_text(source + '\nconst char* lat_cpu_arch_name(void) { return "fake"; }\n')
    for name in (native.KERNELS_LIBRARY, native.ORT_LIBRARY):
        subprocess.run([compiler, "-shared", "-fPIC", "fake.c", "-o", name], cwd=folder, check=True)
    ops = ["banded_window_attention"]
    contents = {"kernels": ops, "onnxruntime": ops, "archs": ["fake"], "compiler": "cc", "left_out": {}}
    (folder / native.CONTENTS).write_text(json.dumps(contents))
    return folder, OTHER_VERSIONS[request.param]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lat_export", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, native.FOLDER_VARIABLE: str(folder)},
    )


def test_the_header_and_the_package_have_one_version() -> None:
    header = (ROOT / "plugins" / "common" / "kernel_abi.h").read_text()
    assert f"#define LAT_ABI_VERSION {native.ABI_VERSION}\n" in header


def test_the_built_libraries_have_it(plugins: native.Plugins) -> None:
    assert plugins.unusable is None


def test_every_asker_is_told(other: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, got = other
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(folder))
    assert native.ort_library() is None
    assert "not used" in native.describe()
    for ask in (native.demand_ort_library, native.enable):
        with pytest.raises(MissingError, match=WHAT) as caught:
            ask()
        assert caught.value.got == f"{native.KERNELS_LIBRARY} {got}"  # both are wrong; this one is looked at first
        assert caught.value.expected == f"version {native.ABI_VERSION} of the C ABI"
        assert str(caught.value.hint).startswith("lat-export plugins build")


def test_commands_say_so(other: tuple[Path, str]) -> None:
    folder, got = other
    doctor = command(folder, "doctor")
    assert doctor.returncode == 0
    (finding,) = [f for f in json.loads(command(folder, "doctor", "--json").stdout) if f["part"] == "native ops"]
    assert finding["state"] == "not used"
    for word in (WHAT, got, f"expected: version {native.ABI_VERSION} of the C ABI", "lat-export plugins build"):
        assert word in " ".join(doctor.stdout.split())
    listed = command(folder, "plugins", "list")
    assert listed.returncode == 0
    assert WHAT in listed.stdout
    assert "onnxruntime (CPU)" not in listed.stdout
    assert WHAT in json.loads(command(folder, "plugins", "list", "--json").stdout)["unusable"]
    path = command(folder, "plugins", "path")
    assert (path.returncode, path.stdout) == (3, "")
    assert WHAT in path.stderr


def test_an_export_runs_bodies_and_warns(
    other: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, got = other
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(folder))
    told: list[str] = []
    checkpoint = GOLDEN / "yoso" / "text-classification" / "checkpoint"
    made = export(ModelSpec(str(checkpoint), "ort", tmp_path / "out"), told.append)
    (warning,) = [line for line in told if WHAT in line]
    assert warning.startswith("warning: every lat node runs as its body")
    assert got in warning
    assert made.report is not None
    assert [subject.verdict for subject in made.report.subjects] == [PASSED, PASSED]
    assert {form for subject in made.report.subjects for form in subject.forms.values()} == {"body"}
    assert WHAT in made.report.provenance.environment["native ops"]


def test_one_library_of_another_version_is_enough(
    other: tuple[Path, str], plugins: native.Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels fit and the adapter does not: onnxruntime does not get it."""
    if not (plugins.folder / native.ORT_LIBRARY).is_file():
        pytest.skip(f"no native ops for onnxruntime: {plugins.left_out}")
    for name in (native.KERNELS_LIBRARY, native.CONTENTS):
        shutil.copy(plugins.folder / name, tmp_path)
    shutil.copy(other[0] / native.ORT_LIBRARY, tmp_path)
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    assert native.ort_library() is None
    with pytest.raises(MissingError) as caught:
        native.demand_ort_library()
    assert caught.value.got == f"{native.ORT_LIBRARY} {other[1]}"
    tensor = torch.zeros(1, 1, 4)
    mask = torch.ones(1, 1, dtype=torch.int32)
    with native.kernels(threads=1):
        torch.ops.lat.bernoulli_expectation(tensor, tensor, tensor, mask, num_heads=1, hash_code_len=1)
