"""Deployments for a device: made once, run as a user runs them, changed for what can go wrong."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from lat_export import native
from lat_export.deploy import Serving, deploy
from lat_export.deploy.edge import MANIFEST_FILE, PROGRAM
from lat_export.deploy.edge_tokenizer import TABLES_FILE, EdgeTokenizer


def edge(bundle: Path, out: Path, **options: Any) -> Path:
    """`--format edge`; skips where nothing can be compiled."""
    lacking = [tool for tool in native.TOOLS if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    return deploy(bundle, "edge", Serving(out, **options)).folder


def lat_edge(folder: Path, *arguments: str, lines: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """The program with an empty environment: no Python, no path, nothing of this machine."""
    return subprocess.run(
        [folder / PROGRAM, *arguments],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
        env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
    )


def answers(folder: Path, requests: list[dict[str, Any]], how: str = "--lines") -> list[dict[str, Any]]:
    done = lat_edge(folder, how, lines=map(json.dumps, requests))
    assert len(done.stdout.splitlines()) == len(requests), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def changed(folder: Path, out: Path, **facts: Any) -> Path:
    """A copy with other facts in edge.json; large files are shared."""
    shutil.copytree(folder, out, copy_function=os.link)
    rewrite(out / MANIFEST_FILE, json.dumps({**json.loads((out / MANIFEST_FILE).read_text()), **facts}).encode())
    return out


def rewrite(path: Path, content: bytes) -> None:
    """In this copy alone."""
    path.unlink()
    path.write_bytes(content)


def with_tokenizer(folder: Path, out: Path, tokenizer: EdgeTokenizer) -> Path:
    changed(folder, out, tokenizer=tokenizer.facts)
    (out / TABLES_FILE).unlink()
    save_file(tokenizer.tables, out / TABLES_FILE)
    return out


OTHER = "aarch64" if platform.machine() != "aarch64" else "x86_64"
