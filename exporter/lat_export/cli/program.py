"""The program: its commands, and the exit code of each of its errors."""

from __future__ import annotations

import errno
import os
import sys
import traceback

import click

from lat_export import __version__
from lat_export.cli.bench import bench
from lat_export.cli.bundle import bundle
from lat_export.cli.doctor import doctor
from lat_export.cli.golden import golden
from lat_export.cli.inspect import inspect
from lat_export.cli.model import model
from lat_export.cli.plugins import plugins
from lat_export.cli.refit import refit
from lat_export.cli.run import run
from lat_export.cli.validate import validate
from lat_export.console import print_error, tell
from lat_export.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_DONE,
    EXIT_MISSING,
    InputError,
    LatExportError,
    MissingError,
)

# Of a stream, which unlike a file has no name.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lat-export")
def cli() -> None:
    """Take Longformer, YOSO and Nystroemformer to ONNX, ONNX Runtime and TensorRT, and prove that they agree.

    Exit codes: 0 done; 1 parity or a check failed; 2 bad usage or input; 3 something is missing; 70 a bug.
    """


for command in (model, validate, bench, run, inspect, refit, bundle, doctor, plugins, golden):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with its code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        tell("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LatExportError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        hint = f"pip install {error.name}; `lat-export doctor` lists all that is missing"
        print_error(MissingError(f"the Python package {error.name} is missing", hint=hint))
        sys.exit(EXIT_MISSING)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in FULL:
            print_error(InputError("what is printed cannot be written", got=error.strerror, hint="is the disk full?"))
            sys.exit(EXIT_BAD_INPUT)
        traceback.print_exc()
        tell("\nThis is a bug in lat-export. Please report it with the lines above.")
        sys.exit(EXIT_BUG)
    sys.exit(EXIT_DONE)
