"""Common start of every stage program: ends with its parent, ends cleanly on SIGTERM, prints errors as one sentence.

``python -m stages.NAME ARGUMENT ...`` is all a stage is; DVC starts it, but so can a person.
"""

from __future__ import annotations

import argparse
import ctypes
import getpass
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from stages.core.errors import InputError, OperationError
from stages.runtime import gpu_errors

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

PR_SET_PDEATHSIG = 1

_leaves_at_once = False


class Terminated(BaseException):
    """SIGTERM was received; not an ``Exception``, so that only the outermost handler catches it."""


def run(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse, run ``main`` and return the exit code: 0, 2 for input that cannot be used, 143 after SIGTERM.

    141 when what reads our output has gone (``facet list heads | head -1``): it has seen enough, that is no error.
    A bug is not a person's mistake: it is raised, with its traceback.
    """
    arguments = parser.parse_args(argv)
    name_user()
    die_with_parent()
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        main(arguments)
        sys.stdout.flush()
    except BaseException as error:
        code = _report(error)
        if _leaves_at_once:
            if code is None:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1 if code is None else code)
        if code is None:
            raise
        return code
    _record_imports()
    return 0


def name_user() -> None:
    """Name a user that the system does not know: libraries ask for it, PyTorch at the end of a training.

    Such is the user of a container that was started with ``--user``.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


def reader_has_gone() -> bool:
    """Return whether nobody reads our standard output any more; if so, drop what Python would still write to it.

    Without this check a broken pipe between two processes of ours would pass for one.
    """
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    # Python's own last flush would complain
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _report(error: BaseException) -> int | None:
    """Print what is no bug as one sentence and return its exit code; None for a bug."""
    if isinstance(error, Terminated):
        print("stopped by SIGTERM; finished work is kept, run again to resume", file=sys.stderr, flush=True)
        return 143
    if isinstance(error, BrokenPipeError) and reader_has_gone():
        return 141
    text: str | None = str(error)
    if not isinstance(error, (InputError, OperationError, OSError)):
        text = _no_memory(error) or (gpu_errors.sentence(error) if isinstance(error, RuntimeError) else None)
    if text is None:
        return None
    if os.environ.get("FACET_GPUS"):
        from stages.runtime import gpu_lock, gpu_rest  # late: most programs have no GPU

        text += gpu_rest.note(gpu_lock.lease_folder(), error)
    if os.environ.get("FACET_DEBUG"):
        traceback.print_exc()
    print(f"error: {text}", file=sys.stderr, flush=True)
    return 2


def _no_memory(error: BaseException) -> str | None:
    """Return a sentence for memory that the machine, or a limit of it, refused; None for any other error."""
    said = str(error)
    if not isinstance(error, MemoryError) and "DefaultCPUAllocator: can't allocate memory" not in said:
        return None
    advice = "stop other programs, use smaller batches or fewer workers, or raise the limit (ulimit -v, a cgroup's)"
    return f"there is no memory left ({(said.splitlines() or ['MemoryError'])[0][:200]}): {advice}"


def leave_at_once() -> None:
    """Let this program end without Python's clean-up when it fails, once it has printed why.

    A process that meets others through NCCL would wait there for them, and they for it.
    """
    global _leaves_at_once
    _leaves_at_once = True


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    # who stops us may signal both us and our group: the second must not cut the first one's clean-up short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def die_with_parent() -> None:
    """Have SIGTERM sent to this process when DVC dies: a killed DVC otherwise leaves its command running."""
    if sys.platform != "linux" or os.environ.get("FACET_KEEP_ALIVE"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # bash becomes its last command; dash, the /bin/sh of Debian, stays between DVC and us and outlives DVC
    if (starter := _starter_of_shell(os.getppid())) is not None:
        threading.Thread(target=_follow, args=[starter], daemon=True, name="die with DVC").start()


def is_shell(words: Sequence[str]) -> bool:
    """Return whether a command line is that of a shell with a command.

    >>> is_shell(["/bin/sh", "-c", "sleep 1"]), is_shell(["python", "-c", "1"]), is_shell([])
    (True, False, False)
    """
    return bool(words) and words[0].endswith("sh") and "-c" in words[1:]


def _starter_of_shell(pid: int) -> int | None:
    """Return a descriptor of the process that started the shell ``pid`` with ``-c``; None if it is no such shell."""
    try:
        if not is_shell(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")):
            return None
        return os.pidfd_open(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
    except (OSError, ValueError):
        return None


def _follow(descriptor: int) -> None:
    select.select([descriptor], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def closing(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Shut a pool of processes down after the block; if the block was stopped, its workers are ended first.

    Not `multiprocessing.Pool`, which ends its workers by SIGTERM: it waited for ever for one that was just beginning.
    """
    try:
        yield pool
    except BaseException:
        # what a worker has half done is no loss: a next run does it again
        for worker in active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _record_imports() -> None:
    """Write the modules of ours that were imported, for a test (dvc.yaml must name them all)."""
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
