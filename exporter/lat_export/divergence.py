"""Where a bundle's or an ONNX file's graph parts from another side: PyTorch, a bundle, a file, an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError
from lat_export.native import demand_ort_library
from lat_export.scratch import scratch_folder
from lat_export.stages.bundle import MANIFEST_FILE, Bundle, read_bundle
from lat_export.stages.validate_sampled import flip_rates
from lat_export.targets import PORTABLE_MODEL, target_of
from lat_export.targets.engine_values import EngineValues
from lat_export.targets.onnx_values import OnnxValues
from lat_export.targets.ort import best_model
from lat_export.targets.tensorrt_target import TensorRTTarget
from lat_export.types import ModelSpec, Options
from lat_export.validation.bisect import Side, errors_by_layer, first_divergence
from lat_export.validation.golden import Golden, GoldenCase
from lat_export.validation.report import Divergence, LayerError, Report
from lat_export.validation.tolerance import RELATIVE_L2

if TYPE_CHECKING:
    from lat_export.stages.torch_values import TorchValues

USUAL_TOKENS = 1024
# What of a bundle is searched.
FORMS = ("model", "graph", "engine", "ort")


@dataclass(frozen=True)
class Search:
    """What to look for.

    Attributes:
        other: a checkpoint (PyTorch computes it), a bundle, or an ONNX file.
        form: of `FORMS`: the portable model, the graph given to the engine's builder, engines of parts of it, or what
            onnxruntime runs with the native ops.
        case: name of the golden case to run; None takes the smallest that fails, or else the largest of a usual size,
            with padding if one has it.
        bisect, by_layer: what is wanted.
    """

    other: Path
    form: str = "model"
    case: str | None = None
    bisect: bool = True
    by_layer: bool = False
    precision: str = "fp32"


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        layers: the error after each layer, where that was wanted.
        flip_rates: by node of sampled attention, the share of hash codes that the two sides see otherwise.
    """

    divergence: Divergence | None = None
    layers: tuple[LayerError, ...] = ()
    flip_rates: dict[str, float] = field(default_factory=dict)


def search(
    subject: Path,
    golden: Golden,
    wanted: Search,
    report: Report | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Found:
    """Compare the values inside two programs of one graph.

    Args:
        subject: a bundle or an ONNX file.
        golden: gives the inputs.
        report: of the subject, to choose a case that fails.
    Raises:
        InputError: a side that cannot be read, an unknown case, or two sides that share no value.
        MissingError: an engine, and no GPU to run it; the native ops, and none are built.
    """
    case = chosen_case(golden, wanted.case, report)
    bundle = read_bundle(subject) if subject.is_dir() else None
    with scratch_folder() as scratch:
        one = _of_bundle(bundle, wanted.form, scratch / "one") if bundle else _of_file(subject, wanted.form)
        other = other_side(wanted.other, bundle, golden, scratch / "other")
        tell(f"{one.name} and {other.name}, {case.case.name}")
        layers = errors_by_layer((one, other), case.inputs) if wanted.by_layer else ()
        flips = flip_rates(one, other, case.inputs) if isinstance(one, OnnxValues) else {}
        if not wanted.bisect:
            return Found(None, layers, flips)
        band = RELATIVE_L2[wanted.precision]
        return Found(first_divergence((one, other), case.inputs, band, case.case.name, tell), layers, flips)


def chosen_case(golden: Golden, name: str | None, report: Report | None) -> GoldenCase:
    failing = {row.case for _, row in report.failures()} if report else set()
    cases = list(golden)
    if name is not None:
        found = [case for case in cases if case.case.name == name]
        if not found:
            raise InputError("no such case", got=name, expected="; ".join(case.case.name for case in cases))
        return found[0]
    if failing:
        return min((case for case in cases if case.case.name in failing), key=_tokens)
    usual = [case for case in cases if _tokens(case) <= USUAL_TOKENS]
    return max(usual, key=lambda case: (_tokens(case), _is_padded(case)), default=min(cases, key=_tokens))


def _is_padded(case: GoldenCase) -> bool:
    return not case.inputs["attention_mask"].all()


def _tokens(case: GoldenCase) -> int:
    return int(case.inputs["attention_mask"].size)


def _of_file(model: Path, form: str) -> OnnxValues:
    return OnnxValues(model, native_ops=demand_ort_library() if form == "ort" else None)


def _of_bundle(bundle: Bundle, form: str, scratch: Path) -> Any:
    model = bundle.folder / PORTABLE_MODEL
    target = target_of(bundle.manifest)
    if form == "model":
        return OnnxValues(model, f"{bundle.folder.name}/{PORTABLE_MODEL} in onnxruntime (CPU)")
    if form == "ort":
        library = demand_ort_library()
        artifact = best_model(bundle.folder, bundle.forms, library)
        name = f"{bundle.folder.name}/{artifact.name} in onnxruntime (CPU, native ops)"
        return OnnxValues(artifact, name, library, made_from=model)
    if not isinstance(target, TensorRTTarget):
        raise InputError(
            f"a bundle for {target.title} has no {form}", got=f"--of {form}", expected="--of model or --of ort"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    if form == "engine":
        return EngineValues(target, model, bundle.signature, bundle.plan, scratch)
    lowered = target.lower(model, scratch, bundle.plan)
    return OnnxValues(lowered, f"the graph given to {target.title}, in onnxruntime (CPU)")


def other_side(path: Path, bundle: Bundle | None, golden: Golden, scratch: Path) -> Side:
    if path.is_file():
        return OnnxValues(path)
    if (path / MANIFEST_FILE).is_file():
        side: Side = _of_bundle(read_bundle(path), "model", scratch)
        return side
    return _pytorch(path, bundle, golden)


def _pytorch(checkpoint: Path, bundle: Bundle | None, golden: Golden) -> TorchValues:
    from lat_export.stages.graph import name_nodes
    from lat_export.stages.load import load
    from lat_export.stages.torch_values import TorchValues
    from lat_export.stages.trace import trace

    signature = golden.signature
    options = bundle.manifest["options"] if bundle else golden.manifest["origin"]["options"]
    names = {tensor.name for tensor in (*signature.inputs, *signature.outputs)}
    spec = ModelSpec(
        str(checkpoint),
        "onnx",
        checkpoint,
        task=signature.task,
        options=Options(**options),
        inputs=tuple(name for name in ("token_type_ids", "position_ids", "inputs_embeds") if name in names),
        outputs=tuple(group for group in ("hidden_states", "attentions") if f"{group}.0" in names),
    )
    loaded = load(spec)
    if loaded.signature.inputs != signature.inputs or loaded.signature.outputs != signature.outputs:
        raise InputError(
            "the checkpoint is of another model than the golden tensors",
            got=f"{loaded.signature.family}, {loaded.signature.task}, {loaded.model.config.hidden_size} wide",
            expected=f"{signature.family}, {signature.task}, with the same inputs and outputs",
        )
    traced = trace(loaded)
    name_nodes(traced.program)
    return TorchValues(traced, f"{checkpoint.name} in PyTorch")
