"""Optimisation profiles: the ranges of sizes that an engine is tuned for, one or several.

On the command line `--batch`, `--seq` and `--choices` make one; `--profile batch=1:1:4,seq=128:512:512` is another way
to write one, and may be given again. Profiles are counted from 0, as TensorRT counts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lat_export.errors import InputError
from lat_export.types import ModelSpec, Range

# Dims by what they are called on the command line.
DIMS = {"batch": "batch", "seq": "sequence", "choices": "choices"}
NAMES = {dim: name for name, dim in DIMS.items()}
EXAMPLE = "for example batch=1:1:4,seq=128:512:512"

Profile = dict[str, Range]


def parse_profile(text: str) -> Profile:
    """`"batch=1:1:4,seq=128:512:512"`, in any order; a dim that is left out has its usual range.

    Raises:
        InputError: a name that is no dim, one that comes twice, or no range.
    """
    found: Profile = {}
    for part in text.split(","):
        name, equals, sizes = (word.strip() for word in part.partition("="))
        if not equals or name not in DIMS:
            raise InputError(
                "a profile is NAME=MIN:OPT:MAX, separated by commas",
                got=repr(part),
                expected=f"names out of {', '.join(DIMS)}",
                hint=EXAMPLE,
            )
        if DIMS[name] in found:
            raise InputError(f"a profile names {name} twice", got=text, expected="each name once", hint=EXAMPLE)
        found[DIMS[name]] = Range.parse(sizes)
    return found


def profile_text(profile: Profile) -> str:
    """As `parse_profile` takes it."""
    return ",".join(f"{NAMES.get(dim, dim)}={sizes}" for dim, sizes in profile.items())


def named_profiles(spec: ModelSpec) -> tuple[Profile, ...]:
    """What the user named, one profile at least; dims that were not named are not in it.

    Raises:
        InputError: `--profile` beside `--batch`, `--seq` or `--choices`, or the same profile twice.
    """
    sizes = {"batch": spec.batch, "sequence": spec.sequence, "choices": spec.choices}
    single = {dim: given for dim, given in sizes.items() if given is not None}
    if not spec.profiles:
        return (single,)
    if single:
        raise InputError(
            "the sizes of an engine are named in two ways",
            got=", ".join(f"--{NAMES[dim]} {given}" for dim, given in single.items()) + " beside --profile",
            expected="--profile alone, or --batch, --seq and --choices alone",
            hint=f"--profile {profile_text({**single, **spec.profiles[0]})}",
        )
    return spec.profiles


def demand_distinct(profiles: Sequence[Profile]) -> None:
    """
    Raises:
        InputError: two are the same, so that the later one would never be taken.
    """
    for index, profile in enumerate(profiles):
        if profile in profiles[:index]:
            raise InputError(
                "the same profile twice",
                got=f"--profile {profile_text(profile)}",
                expected="profiles that differ in a size",
                hint="an engine takes the first one that holds a call: leave one out",
            )


def profile_holding(profiles: Iterable[Profile], sizes: dict[str, int]) -> int | None:
    """Index of the first profile in whose ranges all sizes are; None where there is none. Other dims do not count."""
    for index, profile in enumerate(profiles):
        if all(size in profile[dim] for dim, size in sizes.items() if dim in profile):
            return index
    return None
