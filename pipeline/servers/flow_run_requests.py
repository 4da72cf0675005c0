"""Requests of a flow run to Prefect beside its tasks: its tags, and whether it is to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Running

AWAY = (httpx.HTTPError, PrefectException)
"""What a request to a server raises that is away, or does not take it."""
MAX_TAGS = 80
"""Prefect's server fails (status 500) at each change of state of a run with more than about a hundred."""
WATCH_S = 3.0
SIGNALS = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}


def tag(identity: UUID, labels: Sequence[str]) -> None:
    """Tag this flow run; `prefect.tags` would tag every task run with all of them."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(identity, tags=few(labels))


def few(labels: Sequence[str]) -> list[str]:
    """Return as many tags as a run may have; if there are too many, drop those of runs, which tasks have.

    >>> few(["run:a", "table:b"]), few([f"run:{i}" for i in range(99)] + ["table:b"])
    (['run:a', 'table:b'], ['table:b'])
    """
    if len(labels) > MAX_TAGS:
        labels = [label for label in labels if not label.startswith("run:")]
    return list(labels[:MAX_TAGS])


@contextmanager
def at_once() -> Iterator[None]:
    """Make requests of this thread to an unreachable server fail at once, where nothing depends on them."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


class Stop:
    """Whether everything is to stop, and why: a signal, or a cancel in the UI that no worker handles for us.

    Signals only leave a note here. An exception, which Python raises wherever the main thread happens to be, would
    cut Prefect's or our own bookkeeping in two. A second Ctrl-C is an exception: somebody has lost patience.
    """

    def __init__(self, identity: UUID) -> None:
        self.identity = identity
        self.reason: str | None = None
        self.server_was_away = False
        self.over = threading.Event()

    @property
    def asked(self) -> bool:
        """Return whether a stop was requested."""
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """Request a stop; the first reason counts."""
        self.reason = self.reason or reason

    @contextmanager
    def watching(self) -> Iterator[Stop]:
        """Watch for signals, if this is the main thread, and for a cancel on the server."""
        threading.Thread(target=self._watch, name="cancel watch", daemon=True).start()
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield self
        finally:
            self.over.set()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.ask(SIGNALS[signal.Signals(number)])

    def _watch(self) -> None:
        with at_once(), get_client(sync_client=True) as client:
            while not self.over.wait(WATCH_S):
                try:
                    state = client.read_flow_run(self.identity).state
                except AWAY:
                    self.server_was_away = True  # stages go on
                    continue
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    self.ask("cancelled")
                    return
                if state is not None and state.is_crashed():
                    # a server that was away for long missed our heartbeats: we live
                    with suppress(*AWAY):
                        client.set_flow_run_state(self.identity, Running(), force=True)
