"""Who looks dead because Prefect's server was away gets a while; the clock is a fake."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Running

from pipeline.servers import crash_automation
from pipeline.workers import pool_api
from pipeline.workers.pool_api import FORGIVEN_S, Forgiven, Silence


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the pool."""
    clock = Clock()
    monkeypatch.setattr(pool_api, "time", clock)
    return clock


def flow_run(identity: UUID, state: State | None) -> FlowRun:
    return FlowRun(id=identity, flow_id=uuid4(), name="r", state=state)


def test_a_run_taken_for_dead_by_its_silence_is_over_only_after_a_while(clock: Clock) -> None:
    forgiven, identity = Forgiven(), uuid4()
    silent = flow_run(identity, Crashed(message=crash_automation.MESSAGE))
    assert not forgiven.is_over(silent)
    clock.now_s += FORGIVEN_S
    assert not forgiven.is_over(silent)
    clock.now_s += 0.1
    assert forgiven.is_over(silent)


def test_a_run_that_comes_back_is_forgiven_anew_the_next_time(clock: Clock) -> None:
    forgiven, identity = Forgiven(), uuid4()
    assert not forgiven.is_over(flow_run(identity, Crashed(message=crash_automation.MESSAGE)))
    clock.now_s += FORGIVEN_S - 1
    assert not forgiven.is_over(flow_run(identity, Running()))
    clock.now_s += 2
    assert not forgiven.is_over(flow_run(identity, Crashed(message=crash_automation.MESSAGE)))


@pytest.mark.parametrize("state", [Completed(), Cancelled(), Crashed(message="out of memory")])
def test_who_said_how_it_ended_is_over_at_once(clock: Clock, state: State) -> None:
    assert Forgiven().is_over(flow_run(uuid4(), state))


def test_a_worker_is_dead_when_it_was_offline_for_a_while_without_a_break(clock: Clock) -> None:
    silence = Silence()
    assert silence.look({"a": False, "b": True}) == set()
    clock.now_s += FORGIVEN_S - 1
    # the server is back, and so is one of them
    assert silence.look({"a": True, "b": False}) == set()
    clock.now_s += FORGIVEN_S - 1
    assert silence.look({"a": False, "b": False}) == set()
    clock.now_s += 1
    assert silence.look({"a": False, "b": False}) == {"b"}
