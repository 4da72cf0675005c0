"""The losses of twenty training steps stay what they are, unless a change says that it moves them."""

from __future__ import annotations

import json

import pytest

from stages.runtime import plugins
from tests.stages import twenty_steps


@pytest.mark.parametrize("name", twenty_steps.CASES)
def test_twenty_steps_have_the_losses_that_are_kept(name: str) -> None:
    wanted = json.loads(twenty_steps.GOLDEN.read_text())[name]
    # float64: another processor or another torch gives other last bits, which grow over the steps
    assert twenty_steps.losses(name) == pytest.approx(wanted, rel=1e-7), (
        f"the losses of {name} moved: if that is meant, run `python -m tests.golden.make_losses` and say so in CHANGELOG.md"
    )


@pytest.mark.parametrize("kind", ["heads", "objectives"])
def test_every_head_and_objective_is_among_them(kind: str) -> None:
    chosen = {part["name"] for case in twenty_steps.CASES.values() for part in case}
    assert set(plugins.names(kind)) <= chosen
