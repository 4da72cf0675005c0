from __future__ import annotations

import time

import pytest

from pipeline.board import estimate
from pipeline.board.estimate import Estimate
from pipeline.execution.graph import Stage


def chain(*names: str) -> dict[str, Stage]:
    """Return stages each of which needs the one before."""
    above: dict[str, tuple[str, ...]] = {name: names[max(i - 1, 0) : i] for i, name in enumerate(names)}
    return {name: Stage(name, name, needed, ("new",)) for name, needed in above.items()}


def test_the_longest_chain_bounds_what_many_jobs_need() -> None:
    stages = chain("train@a", "evaluate@a", "tabulate") | {"train@b": Stage("train@b", "train@b", (), ("new",))}
    left = estimate.left(stages, {"train@a": 40.0, "evaluate@a": 5.0, "tabulate": 1.0, "train@b": 10.0}, 8, 8)
    assert left == Estimate(46.0, False)


def test_all_work_bounds_what_few_jobs_need() -> None:
    stages = {name: Stage(name, name, (), ("new",)) for name in ("a", "b", "c", "d")}
    assert estimate.left(stages, dict.fromkeys(stages, 10.0), 2, 2) == Estimate(20.0, False)


def test_one_gpu_bounds_what_many_jobs_need() -> None:
    stages = {f"train@{i}": Stage(f"train@{i}", f"train@{i}", (), ("new",)) for i in range(4)}
    stages |= {"row": Stage("row", "row", (), ("new",), needs_device=False)}
    assert estimate.left(stages, dict.fromkeys(stages, 10.0), 17, 1) == Estimate(40.0, False)


def test_what_never_ran_makes_a_bound_of_it_and_nothing_known_no_number() -> None:
    stages = chain("train@a", "evaluate@a")
    assert estimate.left(stages, {"train@a": 40.0, "evaluate@a": None}, 2, 2) == Estimate(40.0, True)
    assert estimate.left(stages, {}, 2, 2) == Estimate(None, True)
    assert estimate.left({}, {}, 2, 2) == Estimate(0.0, False)


def test_a_stage_that_never_ran_takes_as_long_as_others_of_its_kind() -> None:
    stages = chain("g/train/dvc.yaml:train@a", "g/train/dvc.yaml:train@b", "row@x")
    assert estimate.expected(stages, {"g/train/dvc.yaml:train@a": 30.0, "g/train/dvc.yaml:train@old": 50.0}) == {
        "g/train/dvc.yaml:train@a": 30.0,
        "g/train/dvc.yaml:train@b": 40.0,
    }


def test_a_stage_that_is_over_its_usual_time_has_none_left() -> None:
    assert estimate.running_left(10.0, 25.0, "reading", 1.0) == 0.0
    assert estimate.running_left(10.0, 25.0, "train a  50%  10/20 images  1/s  12 s left", 2.0) == pytest.approx(10.0)


def test_hundreds_of_stages_are_reckoned_in_milliseconds() -> None:
    stages = chain(*(f"train@r{i}" for i in range(600)))
    begun_s = time.process_time()
    left = estimate.left(stages, estimate.expected(stages, {"train@r0": 1.0}), 4, 4)
    assert time.process_time() - begun_s < 0.1
    assert left == Estimate(600.0, False)
