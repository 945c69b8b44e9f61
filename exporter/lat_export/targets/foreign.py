"""Engines and ONNX files that came from elsewhere, called by the names of our golden tensors."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export import native
from lat_export.errors import InputError, MissingError, ShapeError, first_line
from lat_export.targets.contract import BuildPlan, Runner, Subject, WatchedRunner
from lat_export.targets.lowering import lat_nodes
from lat_export.targets.onnxruntime_session import WatchedSession, session
from lat_export.targets.tensorrt_run import holding_profile, open_engine
from lat_export.types import Range, Signature

if TYPE_CHECKING:
    import numpy as np

ONNX_SUFFIXES = (".onnx",)
# Libraries that may have built a plan, in the order in which they are tried.
ENGINE_MODULES = ("tensorrt", "tensorrt_rtx")
ORT_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


@dataclass(frozen=True)
class Port:
    """One input or output of a foreign engine; a dim that may vary is None."""

    name: str
    dtype: str
    dims: tuple[int | None, ...]


@dataclass(frozen=True)
class Names:
    """What tensors of a signature are called elsewhere; None for one that the engine does not have."""

    theirs: dict[str, str | None]

    @classmethod
    def read(cls, path: Path | None) -> Names:
        """`{"input_ids": "ids", "token_type_ids": null}`; what is left out has one name here and there."""
        if path is None:
            return cls({})
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError("the file of names cannot be read", got=f"{path}: {first_line(error)}") from error
        if not isinstance(found, dict) or not all(isinstance(name, str | None) for name in found.values()):
            raise InputError("the file of names is no JSON object of strings", got=path, expected='{"ours": "theirs"}')
        return cls(found)

    def check(self, signature: Signature) -> None:
        known = {spec.name for spec in (*signature.inputs, *signature.outputs)}
        if surplus := sorted(set(self.theirs) - known):
            raise InputError("names that the golden tensors do not have", got=surplus, expected=sorted(known))

    def of(self, name: str) -> str | None:
        return self.theirs.get(name, name)


def foreign_subject(engine: Path, signature: Signature, names: Names) -> tuple[Subject, Signature]:
    """An engine to validate, and the part of the signature that it can be asked for.

    Args:
        engine: an ONNX file, or a plan of TensorRT or TensorRT-RTX.
    Raises:
        InputError: no such file, or tensors that cannot be told apart by name.
    """
    if not engine.is_file():
        raise InputError("no such engine or ONNX file", got=engine)
    names.check(signature)
    outputs = tuple(spec for spec in signature.outputs if names.of(spec.name) is not None)
    if not outputs:
        raise InputError("no output is left to compare", got=names.theirs)
    asked = Signature(**{**vars(signature), "outputs": outputs})
    is_onnx = engine.suffix in ONNX_SUFFIXES
    plan = _plan_of(_onnx_ports(engine)[0], asked, names) if is_onnx else BuildPlan({})
    opener = _open_onnx if is_onnx else _open_plan
    runs_in = "onnxruntime (CPU)" if is_onnx else "TensorRT"
    return Subject(f"{engine.name} in {runs_in}", lambda: opener(engine, asked, names), plan), asked


@contextmanager
def _open_onnx(engine: Path, signature: Signature, names: Names) -> Iterator[Runner]:
    inputs, outputs = _onnx_ports(engine)
    with WatchedSession(engine, None, lat_nodes(engine)) as opened:

        def call(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            wanted = [port.name for port in outputs]
            return dict(zip(wanted, opened.run(wanted, arrays), strict=True))

        renamed = _renamed(call, inputs, [port.name for port in outputs], signature, names)
        yield WatchedRunner(renamed, opened.forms)


def _onnx_ports(engine: Path) -> tuple[list[Port], list[Port]]:
    opened = session(engine)

    def port(value: Any) -> Port:
        dims = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        plain = value.type.removeprefix("tensor(").removesuffix(")")
        return Port(value.name, ORT_DTYPES.get(value.type, plain), dims)

    return [port(value) for value in opened.get_inputs()], [port(value) for value in opened.get_outputs()]


@contextmanager
def _open_plan(engine: Path, signature: Signature, names: Names) -> Iterator[Runner]:
    """Never run so far: no machine with a GPU and TensorRT was at hand when it was written."""
    present = [module for module in ENGINE_MODULES if importlib.util.find_spec(module) is not None]
    if not present:
        raise MissingError("TensorRT is not installed", hint="pip install tensorrt, or tensorrt-rtx-cu13 for its plans")
    with open_engine(engine, present[0], _plugins(present[0])) as opened:
        library = importlib.import_module(present[0])
        plan = opened.engine
        tensors = [plan.get_tensor_name(index) for index in range(plan.num_io_tensors)]
        inputs: list[Port] = []
        outputs: list[Port] = []
        for name in tensors:
            dims = tuple(None if size < 0 else size for size in plan.get_tensor_shape(name))
            port = Port(name, str(library.nptype(plan.get_tensor_dtype(name)).__name__), dims)
            is_input = plan.get_tensor_mode(name) == library.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(port)

        def infer(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            if plan.num_optimization_profiles > 1:
                opened.set_profile(holding_profile(plan, {name: array.shape for name, array in arrays.items()}))
            found: dict[str, np.ndarray[Any, Any]] = opened.infer(arrays)
            return found

        yield _renamed(infer, inputs, [port.name for port in outputs], signature, names)


def _plugins(module: str) -> tuple[Path, ...]:
    """Ours, where they are built: an engine of our export may have them. TensorRT-RTX has no plugins."""
    try:
        return () if module == "tensorrt_rtx" else (native.tensorrt_library(),)
    except MissingError:
        return ()


def _renamed(
    call: Callable[..., Any], inputs: list[Port], outputs: list[str], signature: Signature, names: Names
) -> Runner:
    """Golden names in, golden names out, dtypes as the engine has them."""
    import numpy as np

    ports = {port.name: port for port in inputs}
    ours = {theirs: spec.name for spec in signature.inputs if (theirs := names.of(spec.name)) is not None}
    _demand_the_same("inputs", set(ports), set(ours))
    theirs_of = {spec.name: str(names.of(spec.name)) for spec in signature.outputs}
    lacking = set(theirs_of.values()) - set(outputs)
    if lacking:
        _demand_the_same("outputs", set(outputs), set(theirs_of.values()))

    def run(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        found = call({theirs: _cast(arrays[our], ports[theirs]) for theirs, our in ours.items()})
        return {our: np.asarray(found[theirs]) for our, theirs in theirs_of.items()}

    return run


def _demand_the_same(what: str, engine: set[str], golden: set[str]) -> None:
    if engine != golden:
        raise InputError(
            f"the engine calls its {what} otherwise than the golden tensors",
            got=", ".join(sorted(engine)),
            expected=", ".join(sorted(golden)),
            hint='give a JSON file with --names: {"name in the golden": "name in the engine"}, null for one it lacks',
        )


def _cast(array: np.ndarray[Any, Any], port: Port) -> np.ndarray[Any, Any]:
    """The array in the engine's dtype, where no whole number is lost."""
    import numpy as np

    if len(port.dims) != array.ndim:
        raise ShapeError("wrong rank", got=array.shape, expected=port.dims, where={"input": port.name})
    cast = array.astype(port.dtype)
    if np.issubdtype(array.dtype, np.integer) and not np.array_equal(cast, array):
        raise ShapeError("numbers that the engine's dtype does not hold", got=array.dtype, expected=port.dtype)
    return cast


def _plan_of(inputs: list[Port], signature: Signature, names: Names) -> BuildPlan:
    """Sizes that an engine fixes: cases of other sizes are left out, not failed."""
    ports = {port.name: port for port in inputs}
    sizes: dict[str, Range] = {}
    for spec in signature.inputs:
        port = ports.get(str(names.of(spec.name)))
        if port is None or len(port.dims) != len(spec.dims):
            continue
        for ours, theirs in zip(spec.dims, port.dims, strict=True):
            if isinstance(ours, str) and theirs is not None:
                sizes[ours] = Range(theirs, theirs, theirs)
    return BuildPlan(sizes)
