"""Whether a server may put requests of different clients into one batch, how large, and why not."""

from __future__ import annotations

from dataclasses import dataclass

from lat_export.errors import InputError
from lat_export.inspection import inspect_onnx
from lat_export.ops import OPS
from lat_export.stages.bundle import Bundle
from lat_export.targets import PORTABLE_MODEL

DEFAULT_MOST = 8
COUPLES = "per_head_init"

COUPLED = (
    "rows of a batch are coupled: the pseudo-inverse over the landmarks starts from one factor for the whole batch, as "
    "transformers has it (per_head_init=0), so an answer would depend on which requests share its batch; a checkpoint "
    "with inv_coeff_init_option=true has a factor for each head, and its requests can be joined"
)


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
    least = max((profile["batch"].min for profile in bundle.plan.profiles), default=1) if by_engine else 1
    if least > 1:
        return f"the engine takes no batch below {least}, and a server cannot promise to find so many requests"
    return None


def couples_rows(bundle: Bundle) -> bool:
    """Whether what else is in a batch changes a row, by the attributes of the `lat` nodes of the portable model."""
    nodes = inspect_onnx(bundle.folder / PORTABLE_MODEL).lat_nodes.values()
    with_factor = {name for name, op in OPS.items() if any(attribute.name == COUPLES for attribute in op.attributes)}
    return any(node["op"] in with_factor and not node.get(COUPLES, 0) for node in nodes)
