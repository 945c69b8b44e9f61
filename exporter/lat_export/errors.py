"""Every error a user can meet: what, got, expected and a hint, with the exit code that goes with it."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_MISSING = 3
EXIT_BUG = 70


class LatExportError(Exception):
    """An error that the command line prints without a traceback.

    Args:
        what: one sentence: what is wrong, with the name of the thing.
        got: what was found.
        expected: what would have been right.
        hint: what to do next.
        where: the place, as ``{"stage": "validate", "input": "input_ids"}``.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
        where: dict[str, str] | None = None,
    ) -> None:
        self.what = what
        self.got = None if got is None else str(got)
        self.expected = None if expected is None else str(expected)
        self.hint = hint
        self.where = dict(where or {})
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append("  " + "   ".join(f"{key}: {value}" for key, value in self.where.items()))
        facts = [
            f"{name}: {value}" for name, value in (("got", self.got), ("expected", self.expected)) if value is not None
        ]
        if facts and "\n" not in "".join(facts) and sum(map(len, facts)) <= 100:
            lines.append("  " + "   ".join(facts))
        else:
            lines.extend("  " + fact.replace("\n", "\n    ") for fact in facts)
        if self.hint:
            lines.extend(["", f"hint: {self.hint}"])
        return "\n".join(lines)


class InputError(LatExportError):
    """A model, option, file or tensor that the user gave cannot be used."""


class ShapeError(InputError):
    """A tensor's rank, size or dtype breaks the contract of an op or of an exported model."""


class ParityError(LatExportError):
    """An artifact does not compute what PyTorch computes, or a bundle's bytes changed."""

    exit_code = EXIT_CHECK_FAILED


class MissingError(LatExportError):
    """A package, a native library or a device is not there."""

    exit_code = EXIT_MISSING


class InternalError(LatExportError):
    """A fault of lat-export itself."""

    exit_code = EXIT_BUG


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line that is never empty."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
