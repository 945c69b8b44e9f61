"""Launcher for a checkout: `python cli.py ...` is `lat-export ...` without installing the package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "exporter"))

from lat_export.cli import main

if __name__ == "__main__":
    main()
