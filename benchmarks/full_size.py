"""Runs `lat-export bench` on full-size checkpoints (12 layers, hidden 768, base model, random weights).

    python benchmarks/full_size.py
    python benchmarks/full_size.py --model yoso-expectation --tokens 512,4096 --no-compile

All models at all lengths take more than an hour, of which torch.compile is a good part; the machine should do nothing
else. Each model's figures go to results/bench_<model>.json when it is done.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export_full_size import RESULTS, make_checkpoint

TOKENS = "512,1024,2048,4096"


@dataclass(frozen=True)
class Model:
    """
    Attributes:
        changes: config values beside those of `export_full_size.CONFIGS`.
        options: of `lat-export bench`.
        in_pytorch: whether transformers runs it on a CPU.
        on_bodies: whether its function bodies are worth waiting for: those of LshCumulation take 95 s at 4096.
    """

    family: str
    changes: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    in_pytorch: bool = True
    on_bodies: bool = True


MODELS = {
    "longformer": Model("longformer", options=("--globals", "0")),
    "longformer-one-global": Model("longformer", options=("--globals", "1")),
    "nystromformer-landmarks": Model("nystromformer"),
    # The default config: landmarks as many as segments are long, which means exact attention.
    "nystromformer-exact": Model("nystromformer", {"segment_means_seq_len": 64}),
    "yoso-expectation": Model("yoso", {"use_expectation": True}),
    "yoso-lsh": Model(
        "yoso", {"use_expectation": False, "num_hash": 64, "hash_code_len": 9}, in_pytorch=False, on_bodies=False
    ),
}


def bench(name: str, arguments: argparse.Namespace) -> int:
    """Measure one model; the exit code of `lat-export bench`."""
    model = MODELS[name]
    pytorch = ["pytorch", *([] if arguments.no_compile else ["pytorch-compile"])] if model.in_pytorch else []
    command = [sys.executable, "-m", "lat_export", "bench"]
    with tempfile.TemporaryDirectory() as scratch:
        make_checkpoint(model.family, Path(scratch) / name, "AutoModel", **model.changes)
        command += [str(Path(scratch) / name), "--tokens", arguments.tokens, *model.options]
        command += [
            word for subject in (*pytorch, *["onnx"] * model.on_bodies, "ort") for word in ("--subject", subject)
        ]
        command += ["--json", str(arguments.out / f"bench_{name}.json")]
        command += ["--plot", str(arguments.out / f"bench_{name}.svg")] if arguments.plot else []
        for option in ("threads", "repeat", "warm-up", "batch"):
            value = getattr(arguments, option.replace("-", "_"))
            command += [f"--{option}", str(value)] if value is not None else []
        print(f"\n{name}", flush=True)
        return subprocess.run(command, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated; default all")
    parser.add_argument("--tokens", default=TOKENS, help=f"default {TOKENS}")
    parser.add_argument("--batch", help="default 1")
    parser.add_argument("--threads", type=int, help="default all processors")
    parser.add_argument("--repeat", type=int, help="default as lat-export bench chooses: at least 3")
    parser.add_argument("--warm-up", type=int, help="default 1")
    parser.add_argument("--no-compile", action="store_true", help="leave out pytorch-compile")
    parser.add_argument("--plot", action="store_true", help="an SVG beside each JSON file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    failed = [name for name in arguments.model or MODELS if bench(name, arguments)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
