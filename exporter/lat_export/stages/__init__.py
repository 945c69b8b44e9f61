"""The stages of an export, a file each, in the order of `lat_export.pipeline`."""
