"""What holds for every format of deployment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from lat_export.cli.bundle import FORMAT_NAMES
from lat_export.cli.bundle import bundle as command
from lat_export.deploy import FORMATS, Serving, format_named
from lat_export.deploy.contract import flag
from lat_export.errors import InputError

CHOICES = {one.name for one in fields(Serving)} - {"out", "tell"}


def test_every_choice_is_read_by_a_format_and_is_an_option() -> None:
    assert set().union(*(form.takes for form in FORMATS.values())) == CHOICES
    assert {flag(name) for name in CHOICES} <= {name for option in command.params for name in option.opts}
    assert tuple(sorted(FORMATS)) == FORMAT_NAMES


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_an_option_of_another_format_is_refused(name: str, tmp_path: Path) -> None:
    form = format_named(name)
    form.demand_taken(Serving(tmp_path))
    for surplus in sorted(CHOICES - form.takes):
        with pytest.raises(InputError, match=f"--format {name} takes no {flag(surplus)}") as refused:
            form.demand_taken(Serving(tmp_path, **{surplus: False if surplus == "text" else "x"}))
        assert refused.value.hint
