"""What every stage program shares: it dies with its parent, ends cleanly on SIGTERM, and fails with one sentence.

``python -m stages.NAME ARGUMENT ...`` is all a stage is; DVC starts it, but so can a person.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1


class Terminated(BaseException):
    """SIGTERM came: not an ``Exception``, so that no handler but the outermost swallows it."""


def run(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse, run ``main`` and return the exit code: 0, 2 for input that cannot be used, 143 after SIGTERM."""
    arguments = parser.parse_args(argv)
    die_with_parent()
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        main(arguments)
    except (ValueError, LookupError, OSError) as error:
        if os.environ.get("FACET_DEBUG"):
            traceback.print_exc()
        print(f"error: {_sentence(error)}", file=sys.stderr, flush=True)
        return 2
    except Terminated:
        print("stopped by SIGTERM; finished work is kept, run again to go on", file=sys.stderr, flush=True)
        return 143
    _record_imports()
    return 0


def _sentence(error: BaseException) -> str:
    # KeyError's str() is the repr of its message: quotes and escapes a person should not see
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or type(error).__name__


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    # who stops us may signal both us and our group: the second must not cut the first one's clean-up short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: DVC, killed, would otherwise leave its command running."""
    if sys.platform != "linux" or os.environ.get("FACET_KEEP_ALIVE"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _die_with(_behind_a_shell())


def _behind_a_shell() -> int | None:
    """Return the parent of DVC's `sh -c`, where that stands between: dash does not become its last command."""
    if "DVC_STAGE" not in os.environ:
        return None
    try:
        arguments = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")
        status = Path(f"/proc/{os.getppid()}/stat").read_text()
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[1]) if b"-c" in arguments[1:4] else None


def _die_with(pid: int | None) -> None:
    """Send SIGTERM to ourselves when the process ``pid`` dies; a thread waits for that in the kernel."""
    if pid is None or pid <= 1:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return

    def wait() -> None:
        select.select([descriptor], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="dies with DVC", daemon=True).start()


def _record_imports() -> None:
    """Write the modules of ours that were really imported, where a test asks for them (dvc.yaml must name them all)."""
    folder = os.environ.get("FACET_IMPORTS_FOLDER")
    if not folder:
        return
    root = Path.cwd()
    loaded = [getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if _is_ours(name)]
    files = sorted(str(Path(file).relative_to(root)) for file in loaded if file and Path(file).is_relative_to(root))
    Path(folder).mkdir(parents=True, exist_ok=True)
    command = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    target = Path(folder) / (command.replace("/", "_").replace(" ", "_") + ".json")
    target.write_text(json.dumps({"command": command, "files": files}), encoding="utf-8")


def _is_ours(module_name: str) -> bool:
    return module_name.split(".")[0] in {"stages", "__main__"}
