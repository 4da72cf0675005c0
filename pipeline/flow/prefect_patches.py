"""All that changes insides of Prefect: made for Prefect 3.8; another release is reported in one sentence (`check`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest.mock import patch

from prefect import task_engine
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker

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
