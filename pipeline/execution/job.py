"""A job of the fork server, seen from the process that asked for it: its output as it comes, and its result."""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stages.core.errors import OperationError


@dataclass
class Job:
    """A process at work: ``output`` is what it and its programs say, ``result`` what it returns (pickled)."""

    pid: int
    output: int = field(repr=False)
    result: int = field(repr=False)
    answer: bytearray = field(default_factory=bytearray, repr=False)
    """What was read of the result."""
    _at_end: bool = field(default=False, repr=False)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Forget it: its output is no longer read."""
        for descriptor in (self.output, self.result):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @property
    def over(self) -> bool:
        """Whether all of its result was read: the process has ended."""
        return self._at_end

    def events(self, every_s: float | None = None) -> Iterator[bytes]:
        """Yield what it prints as it comes, b"" whenever else it is time to look, until both pipes are at their end.

        What nobody wants to see must be read all the same: a full pipe would stop the process for good.

        Args:
            every_s: look at least so often; None: when something came.
        """
        with selectors.DefaultSelector() as selector:
            for descriptor in (self.output, self.result):
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                printed = b""
                for key, _ in selector.select(every_s):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                        self._at_end |= key.fd == self.result
                    elif key.fd == self.result:
                        self.answer += data
                    else:
                        printed = data
                yield printed

    def value(self) -> Any:
        """Return what the job returned, or raise what it raised.

        Raises:
            RuntimeError: there is nothing: the process was killed.
        """
        if not self.answer:
            raise OperationError(f"process {self.pid}, which ran DVC, died without a result: was it killed?")
        value = pickle.loads(self.answer)
        if isinstance(value, BaseException):
            raise value
        return value

    def wait(self) -> Any:
        """Wait for the result of a job whose output nobody reads.

        Raises:
            RuntimeError: the process died without one.
        """
        with contextlib.closing(self):
            for _ in self.events():
                if self.over:
                    break
        return self.value()
