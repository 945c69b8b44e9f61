"""Whether texts that have nothing to do with each other may share a batch, how many, and why not.

For a server, whose clients know nothing of each other, and for a file of documents.
"""

from __future__ import annotations

from dataclasses import dataclass

from lat_export.errors import InputError
from lat_export.inspection import inspect_onnx
from lat_export.ops import OPS
from lat_export.stages.bundle import Bundle
from lat_export.targets import PORTABLE_MODEL
from lat_export.types import TensorSpec, size_with_globals

DEFAULT_MOST = 8
COUPLES = "per_head_init"

COUPLED = (
    "rows of a batch are coupled: the pseudo-inverse over the landmarks starts from one factor for the whole batch, as "
    "transformers has it (per_head_init=0), so an answer would depend on which requests share its batch; a checkpoint "
    "with inv_coeff_init_option=true has a factor for each head, and its requests can be joined"
)

# Ops that nothing at a padded position passes, as they are and with what stands around them in "paper" semantics only:
# transformers gives YOSO no mask of padding, and Nystroemformer's convolution takes the values there. Landmarks are
# means over padding, too, and NystromAttention is in neither; nor is an op that this table does not know.
KEEP_PADDING_OUT = {
    "hf": {
        "BandedWindowAttention",
        "BandedWindowProbabilities",
        "GlobalTokenAttention",
        "GlobalTokenProbabilities",
    },
    "paper": {"BernoulliExpectation", "FullAttention", "LshCumulation"},
}


@dataclass(frozen=True)
class Batching:
    """
    Attributes:
        most: rows of a batch at most; 0: requests are never joined, and a request may bring a batch of its own.
        why: in a sentence.
    """

    most: int
    why: str

    @property
    def preferred(self) -> tuple[int, ...]:
        """Sizes at which a batch need not wait for more."""
        return tuple(sorted({size for size in (self.most // 2, self.most) if size > 1}))


def batching_of(bundle: Bundle, *, by_engine: bool, asked: int | None) -> Batching:
    """
    Args:
        by_engine: the engine of the bundle runs, and its profiles bound the batch.
        asked: what the user wants.
    Raises:
        InputError: more is asked for than the model can give.
    """
    why_not = _why_not(bundle, by_engine)
    if why_not:
        if asked:
            raise InputError(
                "requests of this model cannot be joined", got=f"--max-batch {asked}", expected="0", hint=why_not
            )
        return Batching(0, why_not)
    bound = max(profile["batch"].max for profile in bundle.plan.profiles) if by_engine else None
    if asked and bound is not None and asked > bound:
        raise InputError(
            "the engine was built for smaller batches",
            got=f"--max-batch {asked}",
            expected=f"at most {bound}",
            hint=f"export again with --batch 1:1:{asked}",
        )
    if asked == 0:
        return Batching(0, "--max-batch 0: requests are not joined")
    most = asked or bound or DEFAULT_MOST
    why = "every row of a batch is computed on its own: requests of one shape may be joined"
    return Batching(most, why if bound is None else f"{why}, up to the {bound} rows that the engine was built for")


def _why_not(bundle: Bundle, by_engine: bool) -> str | None:
    if couples_rows(bundle):
        return COUPLED
    others = [spec.name for spec in bundle.signature.outputs if spec.dims[0] != "batch"]
    if others:
        return f"the first axis of {', '.join(others)} is not the batch, so an answer cannot be cut out of a joint one"
    shared = [spec.name for spec in bundle.signature.outputs if _counts_globals(spec)]
    if shared:
        return f"the shape of {', '.join(shared)} depends on the global tokens of every row in the batch"
    least = max((profile["batch"].min for profile in bundle.plan.profiles), default=1) if by_engine else 1
    if least > 1:
        return f"the engine takes no batch below {least}, and a server cannot promise to find so many requests"
    return None


def _counts_globals(spec: TensorSpec) -> bool:
    return any(size_with_globals(dim, 0) != dim for dim in spec.dims)


def padding_changes_answers(bundle: Bundle) -> bool:
    """Whether a row that is padded further than on its own may be answered otherwise."""
    manifest, outputs = bundle.manifest, bundle.signature.outputs
    kept_out = KEEP_PADDING_OUT["hf"] | (KEEP_PADDING_OUT["paper"] if manifest["semantics"] == "paper" else set())
    # Attention has an axis of N for the padding, too, which an answer of features shows.
    return not set(manifest["lat_nodes"]) <= kept_out or any("sequence" in spec.dims[2:] for spec in outputs)


def couples_rows(bundle: Bundle) -> bool:
    """Whether what else is in a batch changes a row, by the attributes of the `lat` nodes of the portable model."""
    nodes = inspect_onnx(bundle.folder / PORTABLE_MODEL).lat_nodes.values()
    with_factor = {name for name, op in OPS.items() if any(attribute.name == COUPLES for attribute in op.attributes)}
    return any(node["op"] in with_factor and not node.get(COUPLES, 0) for node in nodes)
