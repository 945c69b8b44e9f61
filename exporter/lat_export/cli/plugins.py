"""`lat-export plugins`: build, list, path."""

from __future__ import annotations

from pathlib import Path

import click

from lat_export.cli.options import FOLDER
from lat_export.cli.output import print_json
from lat_export.console import print_plugin_files, print_plugins, tell

AS_BEFORE = "[default: as for the last build; at first none]"


@click.group()
def plugins() -> None:
    """Build, list and find the native forms of the lat ops."""


@plugins.command("build")
@click.option("--arch", metavar="native|all|none|LIST", help=f"CUDA kernels for these GPUs, as 80,90.  {AS_BEFORE}")
@click.option("--tensorrt-include", type=FOLDER, help=f"TensorRT's headers: its plugins are built too.  {AS_BEFORE}")
@click.option("--platform", metavar="aarch64", help="Build for another processor (Jetson), into build/plugins-aarch64.")
@click.option(
    "--cuda-target", type=FOLDER, help="CUDA's runtime for that processor.  [default: fetched from PyPI, 2.5 MB]"
)
def plugins_build(
    arch: str | None, tensorrt_include: Path | None, platform: str | None, cuda_target: Path | None
) -> None:
    """Compile the native ops of this checkout into build/plugins; needs cmake, ninja and a C++17 compiler.

    \b
    lat-export plugins build
    lat-export plugins build --arch native
    lat-export plugins build --arch 80,90 --tensorrt-include TensorRT/include
    lat-export plugins build --platform aarch64 --arch 87 --tensorrt-include TensorRT/include
    """
    from lat_export.native import build

    found = build(tell, arch, tensorrt_include, platform, cuda_target)
    if platform is None:
        print_plugins(found)
    else:
        print_plugin_files(found)


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def plugins_list(as_json: bool) -> None:
    """Show every op: its forms, plugin fields, and whether a GPU ran it; what was built, and what was left out."""
    from lat_export.native import plugins

    found = plugins()
    if as_json:
        facts = {"folder": str(found.folder), "unusable": found.unusable and str(found.unusable)} if found else {}
        print_json({**vars(found), **facts} if found else None)
    else:
        print_plugins(found)


@plugins.command("path")
@click.argument("library", type=click.Choice(("ort", "trt", "cuda", "kernels")), default="ort")
def plugins_path(library: str) -> None:
    """Print where a library is: ort, the default, is what SessionOptions.register_custom_ops_library takes, trt what
    TensorRT's IPluginRegistry.loadLibrary takes; cuda and kernels have the plain C ABI."""
    from lat_export import native

    paths = {
        "ort": native.demand_ort_library,
        "trt": native.tensorrt_library,
        "cuda": native.cuda_library,
        "kernels": native.kernels_library,
    }
    click.echo(paths[library]())
