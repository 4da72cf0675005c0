from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.graph import Stage
from pipeline.execution.schedule import Schedule


def stage(name: str, *upstream: str) -> Stage:
    return Stage(address=name, name=name, upstream=upstream, reasons=("new",))


DIAMOND = [stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c")]


def names(stages: Sequence[Stage]) -> list[str]:
    return [each.name for each in stages]


def run_all(schedule: Schedule, failing: frozenset[str] = frozenset()) -> tuple[list[str], list[str]]:
    """Run one stage at a time; return those started and those skipped, in order."""
    started: list[str] = []
    skipped: list[str] = []
    while not schedule.finished:
        first = schedule.ready()[0]
        schedule.start(first)
        started.append(first.name)
        skipped += names(schedule.finish(first, good=first.name not in failing))
    return started, skipped


def test_stages_start_when_all_they_need_is_done() -> None:
    schedule = Schedule(DIAMOND)
    assert names(schedule.ready()) == ["a"]
    schedule.start(DIAMOND[0])
    assert schedule.ready() == []
    schedule.finish(DIAMOND[0], good=True)
    assert names(schedule.ready()) == ["b", "c"]


def test_what_is_not_to_be_done_counts_as_fresh() -> None:
    assert names(Schedule([stage("d", "b", "c")]).ready()) == ["d"]


def test_a_failure_stops_only_what_needs_it() -> None:
    stages = [*DIAMOND, stage("e", "c")]
    assert run_all(Schedule(stages), frozenset({"b"})) == (["a", "b", "c", "e"], ["d"])


def test_the_longest_chain_goes_first() -> None:
    stages = [stage("short"), stage("long"), stage("after_short", "short")]
    seconds = {"short": 1.0, "after_short": 2.0, "long": 9.0}
    assert names(Schedule(stages, seconds).ready()) == ["long", "short"]


def test_a_new_stage_is_taken_to_last_as_long_as_its_kind() -> None:
    stages = [stage("train@a"), stage("train@b"), stage("other")]
    seconds: Mapping[str, float] = {"train@a": 50.0, "other": 20.0}
    assert names(Schedule(stages, seconds).ready()) == ["train@a", "train@b", "other"]


def test_what_is_abandoned_does_not_start() -> None:
    schedule = Schedule(DIAMOND)
    schedule.start(DIAMOND[0])
    assert names(schedule.abandon()) == ["b", "c", "d"]
    assert schedule.ready() == []
    schedule.finish(DIAMOND[0], good=False)
    assert schedule.finished


@st.composite
def graphs(draw: st.DrawFn) -> list[Stage]:
    count = draw(st.integers(1, 12))
    return [stage(f"s{i}", *(f"s{j}" for j in range(i) if draw(st.booleans()))) for i in range(count)]


@given(graphs(), st.frozensets(st.sampled_from([f"s{i}" for i in range(12)])))
def test_each_stage_starts_once_after_what_it_needs_or_is_skipped(
    stages: list[Stage], failing: frozenset[str]
) -> None:
    started, skipped = run_all(Schedule(stages), failing)
    assert sorted(started + skipped) == sorted(names(stages))
    by_name = {each.name: each for each in stages}
    for i, name in enumerate(started):
        assert set(by_name[name].upstream) <= set(started[:i]) - failing
    for name in skipped:
        assert set(by_name[name].upstream) & (failing | set(skipped))
