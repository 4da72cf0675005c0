"""All that changes insides of Prefect: made for Prefect 3.8; another release is reported in one sentence (`check`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from prefect import task_engine
from prefect.events import emit_event
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.logging import handlers

from pipeline.base import versions

MADE_FOR = "3.8"


def check() -> None:
    """Print a warning if Prefect is of another release than this was made for."""
    versions.warn("prefect", MADE_FOR)


def install() -> None:
    """Apply what holds for a whole flow run, after a check of Prefect's release."""
    check()
    _be_brief_with_a_dead_server()
    logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    """Let a task that returned a failed state be logged without ``NoneType: None``, the traceback of no exception."""
    if record.exc_info and record.exc_info[0] is None:
        record.exc_info = None
    return True


@contextmanager
def no_limits_by_tag() -> Iterator[None]:
    """Let tags be labels: else each task asks the server whether its tags name a concurrency limit.

    That took up to two seconds a task where several start at once, and made starting a stage depend on the server. A
    release that has no such function asks again, or asks otherwise.
    """
    with ExitStack() as stack:
        if hasattr(task_engine, "_concurrency"):
            stack.enter_context(patch.object(task_engine, "_concurrency", lambda *_, **__: nullcontext()))
        yield


def _be_brief_with_a_dead_server() -> None:
    """Let an event that cannot be sent wait for the next one, which sends both, in place of seven seconds of trying.

    Else a run whose server died would take minutes to leave.
    """
    EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=1)


def send_what_waits(flow_run_id: str) -> None:
    """Send an event of a run's end, and with it those for which the server was away: else its tasks run for ever there.

    The client keeps what it could not send until the next event, and after the last stage there is none.
    """
    emit_event("facet.run.ended", {"prefect.resource.id": f"facet.run.{flow_run_id}"})


@contextmanager
def task_lines_on_their_tasks() -> Iterator[None]:
    """Send log lines of tasks without the flow run's ID: its page shows the flow's own lines, a task's page the task's.

    The page of a flow run has no such filter, so that hundreds of lines of each stage would hide what happened. A
    release that has no such hook shows all lines on both pages.
    """
    if not hasattr(handlers, "set_api_log_sink"):
        yield
        return

    def send(line: dict[str, Any]) -> None:
        of_task = line.get("task_run_id") is not None
        handlers.APILogWorker.instance().send(line | {"flow_run_id": None} if of_task else line)

    handlers.set_api_log_sink(send)
    try:
        yield
    finally:
        handlers.set_api_log_sink(None)
