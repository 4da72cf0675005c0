"""The program `facet` as it is installed: the commands of `pipeline.cli`, on Linux only."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command `facet`, or end with one sentence where the system lacks what facet stands on.

    Raises:
        SystemExit: the system is not Linux. Windows would fail at the first import of `fcntl`, macOS amid a run.
    """
    if sys.platform != "linux":
        raise SystemExit(
            f"error: facet needs Linux (prctl, flock, pidfd) and this is {sys.platform}: "
            "use WSL 2 on Windows, a container or a virtual machine elsewhere"
        )
    from pipeline.cli import app

    app()
