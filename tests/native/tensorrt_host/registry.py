"""Loads a plugin library into TensorRT-RTX's registry and prints, as JSON, what the registry makes of it.

In a process of its own: TensorRT-RTX's parser aborts where a plugin is registered.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import numpy
import tensorrt_rtx as trt

KINDS = {"i4": "INT32", "i8": "INT64", "f4": "FLOAT32", "f8": "FLOAT64", "S1": "CHAR"}
OPS = (
    "BandedWindowAttention",
    "BernoulliExpectation",
    "FullAttention",
    "GlobalTokenAttention",
    "LshCumulation",
    "NystromAttention",
)

Field = tuple[str, numpy.ndarray]


class Logger(trt.ILogger):  # type: ignore[misc]
    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, text: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(text)

    def taken(self) -> list[str]:
        errors, self.errors = self.errors, []
        return errors


class StandardError:
    """What native code writes to stderr."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the process
        os.dup2(self.file.fileno(), 2)

    def taken(self) -> list[str]:
        text = os.pread(self.file.fileno(), 1 << 20, 0).decode()
        self.file.truncate(0)
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        return text.splitlines()


def integers(name: str, *values: int, kind: str = "i4") -> Field:
    return name, numpy.array(values, kind)


def real(name: str, value: float, kind: str = "f4") -> Field:
    return name, numpy.array([value], kind)


def text(name: str, value: str) -> Field:
    return name, numpy.frombuffer(value.encode() + b"\0", "S1")


HEADS, WINDOW, SCALE = integers("num_heads", 12), integers("window", 256), real("scale", 0.125)
GOOD = {
    "int32 and float32": [HEADS, WINDOW, SCALE],
    "with TF32": [HEADS, WINDOW, SCALE, integers("allow_tf32", 1)],
    "without TF32": [HEADS, WINDOW, SCALE, integers("allow_tf32", 0, kind="i8")],
    "int64 and float64": [integers("num_heads", 12, kind="i8"), WINDOW, real("scale", 0.125, kind="f8")],
    "with the plugin's name": [HEADS, WINDOW, SCALE, text("plugin_namespace", "lat"), text("plugin_version", "1")],
}
BAD = {
    "no fields": [],
    "one is missing": [HEADS, WINDOW],
    "one is unknown": [HEADS, WINDOW, SCALE, real("dropout", 0.1)],
    "one is given twice": [HEADS, WINDOW, WINDOW, SCALE],
    "wrong type": [HEADS, real("window", 256), SCALE],
    "two numbers": [HEADS, integers("window", 256, 256), SCALE],
    "out of range": [HEADS, integers("window", 0), SCALE],
    "no number": [HEADS, WINDOW, real("scale", float("nan"))],
    "neither 0 nor 1": [HEADS, WINDOW, SCALE, integers("allow_tf32", 2)],
    "below 0": [HEADS, WINDOW, SCALE, integers("allow_tf32", -1)],
}


def main(path: str) -> None:
    logger = Logger()
    runtime = trt.Runtime(logger)  # whose logger the registry hands to the library
    registry = trt.get_plugin_registry()
    standard_error = StandardError()
    assert registry.load_library(path) is not None
    creators = {name: registry.get_creator(name, "1", "lat") for name in OPS}

    def make(fields: list[Field]) -> bool:
        given = [
            trt.PluginField(name, data, getattr(trt.PluginFieldType, KINDS[data.dtype.str[1:]]))
            for name, data in fields
        ]
        creator = creators["BandedWindowAttention"]
        plugin = creator.create_plugin("layer 3", trt.PluginFieldCollection(given), trt.TensorRTPhase.BUILD)
        return plugin is not None

    found = {
        "listed": sorted(
            (creator.name, creator.plugin_version, creator.plugin_namespace)
            for creator in registry.all_creators
            if creator.plugin_namespace == "lat"
        ),
        "fields": {
            name: [(field.name, field.type.name) for field in creator.field_names] for name, creator in creators.items()
        },
        "stderr_of_loading": standard_error.taken(),
        "made": {case: make(fields) for case, fields in GOOD.items()},
        "errors_of_made": logger.taken() + standard_error.taken(),
        "refused": {case: (make(fields), logger.taken(), standard_error.taken()) for case, fields in BAD.items()},
    }
    del runtime
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
