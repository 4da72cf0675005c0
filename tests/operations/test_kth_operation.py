"""Whichever file operation fails first: nothing is half, nothing that was there is lost, and the next run finishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.operations import harness
from tests.operations.cases import ALL

# of every kind of writing one, and what a person would miss most; `make operations` runs all with all faults
FAST = ["folder of results", "checkpoints of a finished training", "journals of runs", "lock entry", "side workspace"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operations")


@pytest.fixture(scope="module")
def library(folder: Path) -> Path:
    library = harness.build(folder)
    if library is None:
        pytest.skip("no C compiler, which makes operations fail")
    return library


@pytest.fixture(scope="module")
def found(library: Path, folder: Path) -> dict[str, Any]:
    return harness.report(library, folder, FAST, ["killed"])


@pytest.mark.slow
def test_each_piece_of_work_runs_the_functions_that_it_covers(library: Path, folder: Path) -> None:
    quick = [name for name, case in ALL.items() if not case.slow]
    made = harness.report(library, folder, quick, [])
    assert list(made) == quick
    assert {name: sorted(missing) for name in quick if (missing := {*ALL[name].covers} - {*made[name]["ran"]})} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_process_killed_at_any_operation_leaves_all_whole_and_the_next_finishes(name: str, found: dict[str, Any]) -> None:
    case, made = ALL[name], found[name]
    assert made["problems"] == []
    assert set(case.covers) <= set(made["ran"])
    # each operation was the one at which a process died
    assert made["tries"] == sum(made["operations"].values()) > 0
