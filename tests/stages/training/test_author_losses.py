"""Twenty steps of the published programs, as the authors' own code makes them, in float64."""

from __future__ import annotations

import json

import pytest

from tests.stages import author_steps


@pytest.mark.slow
@pytest.mark.parametrize("name", author_steps.CASES)
def test_twenty_steps_have_the_losses_of_the_authors_program(name: str) -> None:
    wanted = json.loads(author_steps.GOLDEN.read_text())[name]
    assert len(wanted) == author_steps.STEPS
    assert author_steps.losses(name) == pytest.approx(wanted, rel=1e-9)
