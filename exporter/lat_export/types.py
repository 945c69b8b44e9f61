"""The nouns that the stages hand to each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lat_export.engine_options import EngineOptions
from lat_export.errors import InputError, ShapeError

# What runs a `lat` node: its ONNX function body, a kernel in onnxruntime, a plugin in an engine.
BODY, NATIVE, PLUGIN = "body", "native", "plugin"


@dataclass(frozen=True)
class Range:
    """Smallest, most frequent and largest size of a dynamic dimension, ends included."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise InputError(
                "a range is MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX",
                got=f"{self.min}:{self.opt}:{self.max}",
                expected="for example 1:512:4096",
                hint="order the three numbers, smallest first; one number alone means a fixed size",
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def __contains__(self, size: object) -> bool:
        return isinstance(size, int) and self.min <= size <= self.max

    @classmethod
    def parse(cls, text: str) -> Range:
        """``"512"`` or ``"1:512:4096"``."""
        parts = text.split(":")
        if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
            raise InputError(
                "a range is MIN:OPT:MAX or one number",
                got=repr(text),
                expected="for example 1:512:4096, or 512",
            )
        sizes = [int(part) for part in parts]
        return cls(*sizes) if len(sizes) == 3 else cls(sizes[0], sizes[0], sizes[0])


# The dim of the most global tokens in a row of a batch, which only the data tell; `GLOBALS_DIM+9` is 9 more.
GLOBALS_DIM = "globals"
SEMANTICS = ("hf", "paper")
PRECISIONS = ("fp32", "fp16", "bf16")
OPTIONAL_INPUTS = ("token_type_ids", "position_ids", "inputs_embeds")
OPTIONAL_OUTPUTS = ("hidden_states", "attentions")


def size_with_globals(dim: str | int, most_globals: int) -> str | int:
    """`dim`, and where it counts global tokens its size in a batch whose rows have at most so many."""
    name, _, more = str(dim).partition("+")
    return most_globals + int(more or 0) if name == GLOBALS_DIM else dim


@dataclass(frozen=True)
class Options:
    """Choices that change what an exported model computes; the manifest keeps them.

    Attributes:
        semantics: "hf": as transformers computes it, its faults included; "paper": as the authors meant it.
        hash_seed: seed of the random projections of sampled attention (YOSO).
        num_hash: hashes of sampled attention, where the config's number is not wanted.
    """

    semantics: str = "hf"
    hash_seed: int = 0
    num_hash: int | None = None

    def __post_init__(self) -> None:
        if self.semantics not in SEMANTICS:
            raise InputError("unknown semantics", got=self.semantics, expected=" or ".join(SEMANTICS))


@dataclass(frozen=True)
class ModelSpec:
    """What the user asked for.

    Attributes:
        model: a folder written by ``save_pretrained``, or a hub id.
        task: a task name of ``lat_export.tasks``, or None to read it from the checkpoint's ``architectures``.
        target: a name in ``lat_export.targets``.
        batch, choices, sequence: sizes that an engine is built for; None takes the target's default.
        profiles: such sizes by dim, several times, in place of those three.
        max_global: upper bound on global tokens of a row for targets whose shapes cannot depend on data.
        inputs: of `OPTIONAL_INPUTS`; inputs_embeds takes the place of input_ids.
        outputs: of `OPTIONAL_OUTPUTS`.
        kit: no engine is built here, but a folder that builds it on another machine.
        engine: how an engine is built.
        precision: of `PRECISIONS`; what stays in float32 in half precision is in `lat_export.precision.POLICY`.
        keep_fp32: parts that stay in float32 besides, by names of `lat_export.precision.parts`; None for those that
            parity needs.
    """

    model: str
    target: str
    out: Path
    task: str | None = None
    batch: Range | None = None
    choices: Range | None = None
    sequence: Range | None = None
    profiles: tuple[dict[str, Range], ...] = ()
    max_global: int | None = None
    options: Options = Options()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    allow_pickle: bool = False
    validate: bool = True
    force: bool = False
    kit: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)
    precision: str = "fp32"
    keep_fp32: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError("unknown precision", got=self.precision, expected=", ".join(PRECISIONS))
        if self.precision == "fp32" and self.keep_fp32 is not None:
            raise InputError(
                "in fp32 there is nothing to keep",
                got=f"--keep-fp32 {','.join(self.keep_fp32) or 'none'}",
                hint="it is for --precision fp16 and bf16",
            )


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an exported model.

    Attributes:
        dims: a name for a dynamic dimension, a size for a fixed one.
        below: integers of this input are at least 0 and below this number; None for no bound.
    """

    name: str
    dtype: str
    dims: tuple[str | int, ...]
    below: int | None = None


@dataclass(frozen=True)
class Signature:
    """How an exported model is called, and within which limits: all that a run needs to know without PyTorch.

    Attributes:
        max_tokens: largest N that the position table holds.
        boundary_lengths: lengths at which the family's attention changes its path; the case table visits them.
        multiple_of: every length is a multiple of this many tokens.
        pattern_length: a length at which the case table meets every padding and every pattern of globals.
        max_global: bound on the global tokens of a row, for engines; None if the family has no global tokens.
        default_globals: which tokens the task makes global where the caller names none: "none", "first", "before the
            separator" or "after the separator".
        first_position: position id of the first token.
    """

    family: str
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pad_token_id: int
    max_tokens: int
    boundary_lengths: tuple[int, ...]
    pattern_length: int
    max_global: int | None = None
    multiple_of: int = 1
    default_globals: str = "none"
    first_position: int = 2

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        def tensors(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(**{**row, "dims": tuple(row["dims"])}) for row in rows)

        fields = dict(data)
        fields["inputs"] = tensors(fields["inputs"])
        fields["outputs"] = tensors(fields["outputs"])
        fields["boundary_lengths"] = tuple(fields["boundary_lengths"])
        return cls(**fields)

    @property
    def token_dims(self) -> tuple[str | int, ...]:
        """Dims of one number a token, as the masks have them."""
        return next(spec.dims for spec in self.inputs if spec.name == "attention_mask")

    def sizes_of(self, inputs: dict[str, Any]) -> dict[str, int]:
        """Size of every named dim in arrays by input name, which must be as `check_inputs` wants them."""
        return {
            dim: size
            for spec in self.inputs
            for dim, size in zip(spec.dims, inputs[spec.name].shape, strict=True)
            if isinstance(dim, str)
        }

    def has_input(self, name: str) -> bool:
        return any(spec.name == name for spec in self.inputs)

    def check_inputs(self, inputs: dict[str, Any], *, max_global: int | None = None) -> None:
        """Raise `ShapeError` for inputs that the exported model would compute wrongly or die on.

        Args:
            inputs: arrays by input name.
            max_global: bound on the global tokens of a row, where the artifact has one.
        """
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            if spec.name not in inputs:
                raise ShapeError(f"input {spec.name} is missing", got=sorted(inputs), expected=spec.dims)
            array = inputs[spec.name]
            where = {"input": spec.name}
            if str(array.dtype) != spec.dtype:
                raise ShapeError("wrong dtype", got=array.dtype, expected=spec.dtype, where=where)
            if array.ndim != len(spec.dims):
                raise ShapeError("wrong rank", got=array.shape, expected=spec.dims, where=where)
            for dim, size in zip(spec.dims, array.shape, strict=True):
                expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
                if size != expected or size < 1:
                    raise ShapeError(f"size of {dim} differs", got=array.shape, expected=sizes, where=where)
            self._check_range(spec, array)
        self._check_length(sizes["sequence"])
        if max_global is not None:
            self._check_globals(inputs, max_global)

    def output_shapes(self, inputs: dict[str, Any]) -> dict[str, tuple[str | int, ...]]:
        """Shape of every output for these inputs, by name."""
        mask = inputs["attention_mask"]
        sizes: dict[str | int, int] = dict(zip(self.token_dims, mask.shape, strict=True))
        sizes["*".join(str(dim) for dim in self.token_dims[:-1])] = mask[..., 0].size  # rows of all choices
        most = self.most_globals(inputs)
        return {
            spec.name: tuple(sizes.get(dim, size_with_globals(dim, most)) for dim in spec.dims) for spec in self.outputs
        }

    def _check_length(self, tokens: int) -> None:
        if tokens > self.max_tokens:
            raise ShapeError(
                "the sequence is longer than the checkpoint's position table",
                got=f"N={tokens}",
                expected=f"N <= {self.max_tokens}",
                hint="truncate or split the document",
            )
        if tokens % self.multiple_of:
            whole = -(-tokens // self.multiple_of) * self.multiple_of
            raise ShapeError(
                "the sequence length must be a multiple of the number of landmarks",
                got=f"N={tokens}, L={self.multiple_of}",
                expected=f"N % {self.multiple_of} == 0",
                hint=f"pad to {whole} with attention_mask 0",
            )

    def _check_range(self, spec: TensorSpec, array: Any) -> None:
        if spec.below is not None and (array.min() < 0 or array.max() >= spec.below):
            raise ShapeError(
                "a number that the model has no meaning for",
                got=f"{array.min()} to {array.max()}",
                expected=f"0 to {spec.below - 1}",
                where={"input": spec.name},
                hint="use the checkpoint's own tokenizer" if spec.name == "input_ids" else None,
            )

    def most_globals(self, inputs: dict[str, Any]) -> int:
        """The largest number of global tokens in a row; a global mark on padding is none."""
        if not self.has_input("global_attention_mask"):
            return 0
        return int((inputs["global_attention_mask"] * inputs["attention_mask"]).sum(axis=-1).max())

    def _check_globals(self, inputs: dict[str, Any], max_global: int) -> None:
        most = self.most_globals(inputs)
        if most > max_global:
            raise ShapeError(
                "more global tokens in a row than the engine was built for",
                got=f"{most} global tokens",
                expected=f"at most {max_global}",
                where={"input": "global_attention_mask"},
                hint=f"export again with --max-global {most}",
            )
