"""README.md of a deployment for a device: what to run, what is where."""

from __future__ import annotations

import json
from typing import Any

from lat_export import __version__
from lat_export.stages.bundle import Bundle

REQUESTS: dict[str, dict[str, Any]] = {
    "question-answering": {"text": "A document.", "question": "What is it?"},
    "multiple-choice": {"text": "A beginning.", "choices": ["One end.", "Another."]},
    "fill-mask": {"text": "A <mask>."},
}
IDS: dict[str, Any] = {"multiple-choice": {"ids": [[5, 6, 7], [5, 6, 8]]}}


def readme(bundle: Bundle, facts: dict[str, Any], notes: tuple[str, ...]) -> str:
    """
    Args:
        facts: what the deployment's manifest keeps.
    """
    signature = bundle.signature
    by_text = REQUESTS.get(signature.task, {"text": "A document."})
    request = by_text if facts["takes_text"] else IDS.get(signature.task, {"ids": [5, 6, 7]})
    limits = [f"at most {signature.max_tokens} tokens"]
    if signature.multiple_of > 1:
        limits.append(f"tensors of a multiple of {signature.multiple_of} tokens; texts and ids are padded to one")
    return f"""# {signature.family}, {signature.task}, for {facts["platform"]} without Python

Written by `lat-export bundle --format edge` {__version__}; `deployment.json` has the SHA-256 of every file.

```bash
./lat_edge --check
./lat_edge --request '{json.dumps(request)}'
./lat_edge --bench --tokens 128
./lat_edge --help
```

`--check` compares with what PyTorch computed where the model was exported: run it first on every new device.

- {chr(10).join([f"{notes[0]}; {', '.join(limits)}", *(f"- {note}" for note in notes[1:])])}

| file | what it is |
|---|---|
| `lat_edge` | the command line |
| `include/lat_runner.h`, `lib/liblat_runner.so` | the same for C, C++ and every language that calls C |
| `lib/libonnxruntime.so.1` | onnxruntime {facts["onnxruntime"]}, of its own release; `licenses/onnxruntime` |
| `lib/liblat_ort.so` | native ops, where they are built for {facts["platform"]} |
| `{facts["model_file"]}`, `edge.json` | model, and what the runner knows of it; large weights in `model.onnx.data` |
| `tokenizer.safetensors` | the tokenizer as the runner reads it, if it does; `tokenizer/` is the checkpoint's |
| `kit.json`, `golden.safetensors` | inputs, PyTorch's outputs, and by what an output is judged |
| `sources/` | of `lat_edge` and `liblat_runner.so`: `cmake -S sources -B build && cmake --build build` |

What is built from `sources/` takes the place of `lat_edge` and `lib/liblat_runner.so`; it needs CMake 3.22, a C++17
compiler, and nothing from elsewhere.
"""
