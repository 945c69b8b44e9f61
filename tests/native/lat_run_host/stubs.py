"""Writes runtime_stubs.h: TensorRT's internal interfaces with every method ending the process.

    python stubs.py INCLUDE_DIR FILE

`playing_runtime.cpp` overrides those that lat_run may call. The names of the others are read from the headers, so that
one source plays every version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

STUBS = {
    "RuntimeStub": ("NvInferImpl.h", "VRuntime", "nvinfer1::apiv::VRuntime"),
    "EngineStub": ("NvInferImpl.h", "VCudaEngine", "nvinfer1::apiv::VCudaEngine"),
    "ContextStub": ("NvInferImpl.h", "VExecutionContext", "nvinfer1::apiv::VExecutionContext"),
    "RegistryStub": ("NvInferRuntimeCommon.h", "IPluginRegistry", "nvinfer1::IPluginRegistry"),
}
HEAD = r"""#pragma once
#include <NvInferRuntime.h>

#include <cstdio>
#include <cstdlib>

using namespace nvinfer1;

[[noreturn]] inline void unexpected(const char* what) {
  std::fprintf(stderr, "out of order: %s\n", what);
  std::abort();
}

"""
ABSTRACT = re.compile(r"virtual ([^;{}]*?)(?: = 0| =0);")


def methods(header: str, name: str) -> list[str]:
    """Signatures of the pure virtual methods of a class."""
    code = re.sub(r"//[^\n]*", "", header)
    found = re.search(rf"class {name}\b[^;{{]*\{{(.*?)\n\}};", code, re.DOTALL)
    assert found, name
    return [" ".join(line.split()) for line in ABSTRACT.findall(found[1]) if "~" not in line]


def stub(include: Path, name: str) -> str:
    file, interface, base = STUBS[name]
    signatures = methods((include / file).read_text(), interface)
    assert len(signatures) > 5, (interface, signatures)
    bodies = "\n".join(f'  {line} override {{ unexpected("{interface}: {line}"); }}' for line in signatures)
    return f"class {name} : public {base} {{\n public:\n{bodies}\n}};\n"


if __name__ == "__main__":
    include, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(HEAD + "\n".join(stub(include, name) for name in STUBS))
