"""The kernels of an op to Python: their arguments as C lays them out, and the way to them from the op's contract."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import Structure, byref, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import LatExportError, MissingError, ShapeError
from lat_export.native import cuda
from lat_export.native.abi import BAD_ARGUMENT, DTYPES, NO_MEMORY, OK, UNSUPPORTED, Parallel, Rows, Status, declare
from lat_export.native.library import ADVICE, kernels_library, opened
from lat_export.native.pool import call_with_threads
from lat_export.ops import DOMAIN, OPS

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]

HINTS = {
    NO_MEMORY: "a smaller batch or a shorter sequence needs less memory",
    UNSUPPORTED: "outside of lat_export.native.kernels() the PyTorch reference runs, which takes it",
}


@dataclass(frozen=True)
class Kernel:
    """The kernels of one op, for the CPU and, where it has them, for CUDA.

    Attributes:
        name: the op's ONNX name.
        arguments: its `lat_<op>_args`. A member is called as the contract calls the input or attribute that it is.
        numbers: the members that no attribute gives: from the inputs by name.
    """

    name: str
    arguments: type[Structure]
    numbers: Callable[[Tensors], dict[str, int]] = lambda inputs: {}

    @property
    def entry(self) -> str:
        return f"lat_{OPS[self.name].stem}_cpu"

    @property
    def cuda_entry(self) -> str:
        return f"lat_{OPS[self.name].stem}_cuda"

    def __call__(self, *inputs: torch.Tensor, threads: int = 1, **attributes: Any) -> torch.Tensor:
        """Compute the op natively.

        Args:
            inputs: as the op's contract has them; float32, float16 or bfloat16, all alike, on the CPU or on one CUDA
                device. [B, N, E] inputs may be slices of longer rows; of any other layout a copy is made.
            threads: of the CPU: at most so many work; the bits are the same for any number.
        Returns:
            (B, N, E) without gaps, dtype and device of the inputs. On a CUDA device it is there when what was on the
            current stream is done, as with any operator of PyTorch.
        Raises:
            ShapeError: a tensor that the contract or the kernel does not take.
            InputError: an attribute out of its bounds.
            MissingError: the native ops are not built, or lack this op, or are of another version.
        """
        import torch

        op = OPS[self.name]
        op.check_attributes(attributes)
        op.check_inputs(inputs, attributes)
        named = dict(zip((port.name for port in op.inputs), inputs, strict=True))
        _check_storage(self.name, named)
        device = inputs[0].device
        output = torch.empty(inputs[0].shape, dtype=inputs[0].dtype, device=device)
        kept, arguments = self.filled(named, output, attributes)
        if device.type == "cpu":
            self.run(arguments, threads)
        else:
            self.check(cuda.run(self.cuda_entry, arguments, device))
        del kept  # the kernel reads from it until here; what is freed of a device waits for the stream
        return output

    def filled(self, inputs: Tensors, output: torch.Tensor, attributes: dict[str, Any]) -> tuple[Tensors, Structure]:
        """The arguments of a call, and the tensors that they point into, which must outlive it."""
        first = next(iter(inputs.values()))
        batch, tokens, width = first.shape
        dtype = DTYPES[str(first.dtype).removeprefix("torch.")]
        numbers = {"batch": batch, "tokens": tokens, "width": width, "dtype": dtype}
        numbers |= OPS[self.name].defaults | attributes | self.numbers(inputs)
        kept = {"output": output}
        arguments = self.arguments()
        for name, kind in self.arguments._fields_:  # type: ignore[misc]  # no member has a bit width
            if name in inputs:
                kept[name] = inputs[name] if kind is Rows and Rows.fits(inputs[name]) else inputs[name].contiguous()
            if kind is Rows:
                setattr(arguments, name, Rows.of(kept[name]))
            elif kind is c_void_p:
                setattr(arguments, name, kept[name].data_ptr())
            else:
                setattr(arguments, name, numbers[name])
        return kept, arguments

    def run(self, arguments: Structure, threads: int = 1) -> None:
        """Call the C entry.

        Raises:
            ShapeError: what the kernel says of its arguments.
        """
        entry, status = _entry(kernels_library(), self.entry, self.arguments), Status()

        def kernel(parallel: Parallel | None) -> None:
            entry(byref(arguments), None if parallel is None else byref(parallel), byref(status))

        call_with_threads(kernel, threads)
        self.check(status)

    def check(self, status: Status) -> None:
        """
        Raises:
            ShapeError: what the kernel says of its arguments.
            LatExportError: what went wrong otherwise.
        """
        if status.code != OK:
            raise _error(self.name, status)


@cache
def _entry(library: Path, name: str, arguments: type[Structure]) -> Any:
    loaded = opened(library)
    try:
        return declare(getattr(loaded, name), arguments)
    except AttributeError as error:
        raise MissingError(f"the native ops have no {name}", got=library.name, hint=ADVICE) from error


def _check_storage(op: str, inputs: Tensors) -> None:
    """What a kernel asks beyond the contract: one float type that it has, and one device."""
    device = next(iter(inputs.values())).device
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()}
    (first, wanted), *_ = dtypes.items()
    for name, tensor in inputs.items():
        where = {"op": f"{DOMAIN}::{op}", "input": name}
        if tensor.device.type not in ("cpu", "cuda"):
            raise ShapeError("no kernel is for this device", got=tensor.device, expected="cpu or cuda", where=where)
        if tensor.device != device:
            raise ShapeError(f"another device than {first} is on", got=tensor.device, expected=device, where=where)
        if not tensor.is_floating_point():
            continue
        if dtypes[name] not in DTYPES:
            hint = "outside of lat_export.native.kernels() the PyTorch reference runs, which takes it"
            raise ShapeError(
                "no kernel has this dtype", got=dtypes[name], expected=", ".join(DTYPES), where=where, hint=hint
            )
        if dtypes[name] != wanted:
            raise ShapeError(f"another dtype than {first} has", got=dtypes[name], expected=wanted, where=where)


def _error(op: str, status: Status) -> LatExportError:
    """`tokens: got 0, expected 1 to 7`, as an error of this project."""
    message = status.message.decode(errors="replace")
    what, _, facts = message.partition("got")
    got, _, expected = facts.partition("expected")
    bad = status.code in (BAD_ARGUMENT, UNSUPPORTED)
    return (ShapeError if bad else LatExportError)(
        f"the kernel of {DOMAIN}::{op} {'refuses its arguments' if bad else 'failed'}: {what.strip(' ,:;') or message}",
        got=got.strip(" ,:;") or None,
        expected=expected.strip(" ,:;") or None,
        hint=HINTS.get(status.code),
    )
