"""`lat-export bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lat_export.cli.options import FOLDER, ParsedType
from lat_export.cli.output import print_json
from lat_export.console import print_deployment, tell
from lat_export.errors import InputError

# Written out so that --help loads nothing; a test compares them with the tables.
FORMAT_NAMES = ("edge", "kubernetes", "triton")
BACKEND_NAMES = ("onnxruntime", "tensorrt", "python")
DEVICE_NAMES = ("cpu", "gpu")


def _parse_replicas(text: str) -> tuple[int, int]:
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InputError("not a range of pods", got=f"--replicas {text}", expected="MIN:MAX, say 2:8")
    return int(parts[0]), int(parts[1])


REPLICAS = ParsedType("MIN:MAX", _parse_replicas, tuple)


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--format", "form", required=True, type=click.Choice(FORMAT_NAMES), help="What it is to be served by.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the deployment; it appears whole or not at all.")
@click.option("--backend", type=click.Choice(BACKEND_NAMES), help="What runs the model.  [default: by the bundle]")
@click.option("--name", help="Name of the model.  [default: FAMILY-TASK]")
@click.option("--device", type=click.Choice(DEVICE_NAMES), help="Where it runs.  [default: gpu for engines, else cpu]")
@click.option(
    "--max-batch",
    type=click.IntRange(min=0),
    help="Most rows of different requests in one run; 0 joins none.  [default: 8, or the engine's most]",
)
@click.option("--instances", type=click.IntRange(min=1), default=1, show_default=True, help="Copies that run at once.")
@click.option(
    "--queue-delay-us",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="How long a request waits for others to share a batch with.",
)
@click.option("--served-at", help="Where the server sees the folder of --out, say in a container.  [default: there]")
@click.option("--threads", type=click.IntRange(min=1), help="Of each copy.  [default: onnxruntime's; for kubernetes 4]")
@click.option("--image", help="kubernetes: name that the serving image is pushed under, with a tag or a digest.")
@click.option("--base-image", help="kubernetes: Triton's image to build on.  [default: one of NVIDIA's]")
@click.option("--replicas", metavar="MIN:MAX", type=REPLICAS, help="kubernetes: how many pods.  [default: 2:8]")
@click.option("--no-text", is_flag=True, help="No model that takes text: clients send tokens.")
@click.option("--platform", help="edge: processor that it is for, x86_64 or aarch64.  [default: this machine's]")
@click.option("--onnxruntime", type=FOLDER, help="edge: unpacked release of onnxruntime.  [default: that of PyPI]")
@click.option("--force", is_flag=True, help="Replace an existing deployment.")
@click.option("--json", "as_json", is_flag=True, help="Print the deployment's manifest as JSON.")
def bundle(bundle: Path, form: str, no_text: bool, force: bool, as_json: bool, **arguments: Any) -> None:
    """Make of BUNDLE what a server takes.

    triton: a model repository for NVIDIA Triton Inference Server, with a model that takes text before the one that
    takes tensors.

    kubernetes: the repository, a Dockerfile of an image that holds it, and manifests that run the image.

    edge: a folder for a device without Python: onnxruntime's library, native ops, and a runner with a C ABI that takes
    text or tensors.

    \b
    lat-export bundle ./bundle --format triton --out ./repository
    lat-export bundle ./bundle --format triton --backend python --out ./repository
    lat-export bundle ./bundle --format kubernetes --image registry.example/qa:1 --out ./cluster
    lat-export bundle ./bundle --format edge --out ./device
    lat-export bundle ./bundle --format edge --platform aarch64 --out ./jetson
    """
    from lat_export.deploy import Serving, deploy

    done = deploy(bundle, form, Serving(text=not no_text, tell=tell, **arguments), force=force)
    if as_json:
        print_json(done.manifest)
    else:
        print_deployment(done)
