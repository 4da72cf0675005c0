"""A terminal of a given size for a command, and what it printed there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
import threading
from pathlib import Path

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process whose standard streams are a terminal."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], width: int = 100, height: int = 40) -> None:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        sized = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            command, cwd=folder, env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **sized}, start_new_session=True,
            stdin=theirs, stdout=theirs, stderr=theirs,
        )
        os.close(theirs)
        self.ours, self.data = ours, b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # all who held the other end have left
            while part := os.read(self.ours, 1 << 16):
                self.data += part

    def wait(self, timeout_s: float = 100) -> int:
        """Wait until the process has ended; return its exit code."""
        code = self.process.wait(timeout=timeout_s)
        self.thread.join(timeout=5)
        return code

    @property
    def raw(self) -> str:
        """All that came, with its control codes."""
        return self.data.decode()

    @property
    def text(self) -> str:
        """All that came, one picture after another, without control codes."""
        return CODES.sub("", self.raw).replace("\r", "\n")
