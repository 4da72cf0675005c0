"""Whichever file operation fails first: nothing is half, nothing that was there is lost, and the next run finishes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations import harness
from tests.operations.cases import ALL

# of every kind of writing one, and what a person would miss most; `make operations` runs all with all faults
FAST = ["folder of results", "checkpoints of a finished training", "journals of runs", "lock entry", "side workspace"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("operations")
    library = harness.build(folder)
    if library is None:
        pytest.skip("no C compiler, which makes operations fail")
    return harness.report(library, folder, FAST, ["killed"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_process_killed_at_any_operation_leaves_all_whole_and_the_next_finishes(name: str, found: dict[str, Any]) -> None:
    case, made = ALL[name], found[name]
    assert made["problems"] == []
    assert set(case.covers) <= set(made["ran"])
    # each operation was the one at which a process died
    assert made["tries"] == sum(made["operations"].values()) > 0
