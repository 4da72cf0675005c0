"""What a flow run asks of Prefect beside tasks: tags, which limit nothing, and whether it was cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from unittest.mock import patch
from uuid import UUID

import httpx
from prefect import task_engine
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

WATCH_S = 3.0


def tag(identity: UUID, labels: Sequence[str]) -> None:
    """Tag this flow run; `prefect.tags` would tag every task run with all of them."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(identity, tags=labels)


@contextmanager
def no_limits_by_tag() -> Iterator[None]:
    """Let tags be labels: else each task asks the server whether its tags name a concurrency limit.

    That took up to two seconds a task where several start at once, and made starting a stage depend on the
    server.
    """
    with patch.object(task_engine, "_concurrency", lambda *_, **__: nullcontext(), create=True):
        yield


class CancelWatch:
    """Sets an event when somebody cancels this flow run in the UI: no worker is there to do it for us."""

    def __init__(self, identity: UUID) -> None:
        self.identity = identity
        self.cancelled, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._watch, name="cancel watch", daemon=True)

    def _watch(self) -> None:
        with get_client(sync_client=True) as client:
            while not self.over.wait(WATCH_S):
                try:
                    state = client.read_flow_run(self.identity).state
                except (httpx.HTTPError, PrefectException):
                    continue  # the server is away: stages go on
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    self.cancelled.set()
                    return

    def __enter__(self) -> threading.Event:
        self.thread.start()
        return self.cancelled

    def __exit__(self, *_: object) -> None:
        self.over.set()
