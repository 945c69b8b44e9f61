"""`python -m lat_export`."""

from lat_export.cli import main

main()
