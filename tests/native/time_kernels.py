"""Times of the kernels against their ONNX bodies in stock onnxruntime and PyTorch, interleaved.

    PYTHONPATH=exporter:tests python tests/native/time_kernels.py [N ...]

B = 1, H = 12, D = 64, float32, 2 threads; medians of 5 rounds; all of a round run one after the other.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnx_ir as ir
import onnxruntime
import torch
from native import test_bernoulli_expectation_kernel as bernoulli
from native import test_lsh_cumulation_kernel as lsh
from native import test_nystrom_attention_kernel as nystrom
from native.kernel_build import OK, Kernel, archs, pointer, threads
from native.kernel_checks import random_rows
from ops.single_op_model import single_op_model

HEADS, SIZE, ROUNDS, THREADS = 12, 64, 5, 2


def cases(tokens: int):
    """Module, inputs, arguments, attributes, floating-point operations of the kernel's matrix products."""
    rows = random_rows((1, tokens, HEADS * SIZE), seed=1)
    mask = torch.ones(1, tokens, dtype=torch.int32)
    projection, taps = torch.randn(HEADS, SIZE, 64 * 9), torch.randn(HEADS, 65) * 0.1
    heads = {"num_heads": HEADS}
    one = (*rows, mask)
    yield (
        bernoulli,
        one,
        bernoulli.arguments(one, HEADS, 9),
        {**heads, "hash_code_len": 9},
        4 * tokens**2 * SIZE * HEADS,
    )
    two = (*one, projection)
    attributes = {**heads, "num_hash": 64, "hash_code_len": 9}
    yield lsh, two, lsh.arguments(two, (64, 9)), attributes, 2 * 2 * tokens * SIZE * 64 * 9 * HEADS
    three = (*one, taps)
    attributes = {**heads, "num_landmarks": 64, "per_head_init": 0}
    work = tokens * SIZE * HEADS * (8 * 64 + 2 * 65) + 6 * 4 * 2 * 64**3 * HEADS
    yield nystrom, three, nystrom.arguments(three, 64), attributes, work


def main(lengths: list[int]) -> None:
    torch.set_num_threads(THREADS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {archs()[-1]}, {THREADS} threads")
    with tempfile.TemporaryDirectory() as folder, threads(THREADS) as parallel:
        kernels = {m: Kernel(m.NAME, Path(folder), archs()[-1]) for m in (bernoulli, lsh, nystrom)}
        for tokens, case in itertools.product(lengths, range(3)):
            module, tensors, arguments, attributes, work = next(itertools.islice(cases(tokens), case, None))
            output = torch.empty_like(tensors[0])
            arguments.output = pointer(output)
            model = ir.to_proto(single_op_model(module.OP.name, attributes)).SerializeToString()
            session = onnxruntime.InferenceSession(model, options)
            feeds = {port.name: t.numpy() for port, t in zip(module.OP.inputs, tensors, strict=True)}

            def native(kernel=kernels[module], arguments=arguments) -> None:
                assert kernel(arguments, parallel).code == OK

            forms = {
                "native": native,
                "body": lambda s=session, f=feeds: s.run(None, f),
                "pytorch": lambda m=module, t=tensors, a=attributes: m.OP(*t, **a),
            }
            times: dict[str, list[float]] = {name: [] for name in forms}
            for turn in range(ROUNDS + 1):  # the first warms up
                for name, form in forms.items():
                    start = time.perf_counter()
                    form()
                    if turn:
                        times[name].append(time.perf_counter() - start)
            medians = {name: statistics.median(values) for name, values in times.items()}
            print(
                f"{module.OP.name:22} N={tokens:5}",
                *(f"{name} {1e3 * m:8.1f} ms (best {1e3 * min(times[name]):7.1f})" for name, m in medians.items()),
                f"{work / medians['native'] / 1e9:5.0f} GFLOP/s (best {work / min(times['native']) / 1e9:.0f})",
                f"body/native {medians['body'] / medians['native']:.1f}",
                f"pytorch/native {medians['pytorch'] / medians['native']:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [512, 4096])
