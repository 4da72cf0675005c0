"""Fork server: runs each job that needs DVC in its own process, forked from one that has already imported DVC.

`dvc repro` spends a second of CPU on starting; a fork spends a third of that. Threads would be cheaper
still, but DVC tells workers apart by process. The forker is a program with one thread (``python -m
pipeline.execution.fork_server``), so that a fork copies no lock that another thread holds, and holds nothing of its
parent's but a socket: when the parent is gone, however it went, the socket closes, the forker ends, and its
children get SIGTERM from the kernel.

A job that is killed leaves its stage's program to itself: that follows the process which started its shell, and ends
(stages/runtime/program.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base import environment
from pipeline.execution import dvc_patches
from pipeline.execution.job import Job
from stages.core.errors import InputError, OperationError

PR_SET_PDEATHSIG = 1
REFUSED = 0
"""Sent instead of a pid."""
MAX_DESCRIPTORS = 64
"""Maximum number of descriptors per request: the request, two pipes, and the locks of all GPUs of a lease."""
OWN_DESCRIPTORS = 3
# fmt: off
NEEDED = (
    "configobj", "dulwich.ignore", "dulwich.index", "dulwich.worktree", "dvc.cachemgr", "dvc.data_cloud", "dvc.dirs",
    "dvc.lock", "dvc.repo.artifacts", "dvc.repo.graph", "dvc.repo.datasets", "dvc.repo.index", "dvc.repo.metrics",
    "dvc.repo.params", "dvc.repo.plots", "dvc.repo.reproduce", "dvc.repo.stage", "dvc.repo.status", "dvc.repo.trie",
    "dvc.rwlock", "dvc.scm", "dvc.stage.cache", "dvc.utils.strictyaml", "dvc_data.hashfile._progress",
    "dvc_data.hashfile.db.local", "dvc_data.hashfile.status", "encodings.ascii", "fsspec.implementations.memory",
    "networkx", "platformdirs.unix", "pyparsing", "ruamel.yaml", "scmrepo.git", "scmrepo.noscm",
    "pipeline.execution.graph", "pipeline.execution.reproduce",
)
# fmt: on
"""What DVC imports late, in the midst of its work."""


class Forker:
    """The fork server, as its parent sees it; may be used from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.Lock()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # the parent's process group on purpose: whoever signals the group of a flow run means its stages too
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.execution.fork_server", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=root,
            env=environment.for_children(),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    def start(
        self,
        name: str,
        arguments: Mapping[str, Any],
        extra: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> Job:
        """Start the job ``name`` in its own process.

        Args:
            name: one of ``JOBS``.
            arguments: what it is called with, JSON.
            extra: environment variables beside those of every child.
            keep: file descriptors that shall stay open as long as the process lives: its lease.

        Raises:
            RuntimeError: the forker is gone, or cannot take so many descriptors.
        """
        if len(keep) + OWN_DESCRIPTORS > MAX_DESCRIPTORS:
            most = MAX_DESCRIPTORS - OWN_DESCRIPTORS
            raise OperationError(f"a process can hold at most {most} locks, got {len(keep)}")
        request = json.dumps(
            {
                "job": name,
                "arguments": dict(arguments),
                "environment": environment.for_children() | dict(extra or {}),
            }
        )
        output_r, output_w = os.pipe()
        result_r, result_w = os.pipe()
        # a file in memory: the environments of clusters are larger than a message of a socket may be
        request_r = _in_memory(request)
        try:
            with self.lock:
                socket.send_fds(self.socket, [b"1"], [request_r, output_w, result_w, *keep])
                answer = self.socket.recv(8)
            if not answer:
                raise ConnectionError("no answer")
        except OSError as error:
            os.close(output_r)
            os.close(result_r)
            raise OperationError(f"the fork server has died ({error}): was it killed?") from error
        finally:
            for descriptor in (request_r, output_w, result_w):
                os.close(descriptor)
        job = Job(int.from_bytes(answer, "big"), output_r, result_r)
        if job.pid == REFUSED:
            job.close()
            wanted = len(keep) + OWN_DESCRIPTORS
            raise OperationError(f"the fork server cannot open {wanted} more files: raise `ulimit -n`")
        return job

    def close(self) -> None:
        """Stop the fork server; jobs that still run get SIGTERM."""
        self.socket.close()
        self.process.wait()

    def __enter__(self) -> Forker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_memory(text: str) -> int:
    """Return a descriptor of a file in memory that contains ``text``, to be read from its beginning."""
    descriptor = os.memfd_create("facet-request")
    with os.fdopen(descriptor, "wb", closefd=False) as stream:
        stream.write(text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read_graph() -> Any:
    from pipeline.execution import graph

    return graph.read(Path.cwd())


def _reproduce(address: str, queue_path: str) -> Any:
    from pipeline.execution import reproduce

    # DVC writes the command line into the record by which others learn who works on a file
    sys.argv = ["facet", "run", address]
    return reproduce.reproduce(Path.cwd(), address, Path(queue_path))


def _call(function: str, **arguments: Any) -> Any:
    """Call ``module:function``, for jobs that the fork server knows nothing about."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


JOBS: dict[str, Callable[..., Any]] = {"read_graph": _read_graph, "reproduce": _reproduce, "call": _call}


def import_dvc() -> None:
    """Import what every job needs, so that no fork has to; a version of DVC that lacks a module costs time alone."""
    for name in NEEDED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def serve(descriptor: int) -> None:
    """Fork a process for every request until the parent has ended; runs in the fork server."""
    import_dvc()
    dvc_patches.check()
    requests = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    while _answer(requests):
        _reap()
    _reap()


def _answer(requests: socket.socket) -> bool:
    """Fork for one request; return False when the parent has ended."""
    message, descriptors, flags, _ = socket.recv_fds(requests, 1, MAX_DESCRIPTORS)
    if not message:
        return False
    # a lease without some of its locks would share its GPUs with others
    pid = REFUSED if flags & socket.MSG_CTRUNC else _fork(requests, descriptors)
    requests.send(pid.to_bytes(8, "big"))
    for each in descriptors:
        os.close(each)
    return True


def _fork(requests: socket.socket, descriptors: Sequence[int]) -> int:
    forker = os.getpid()
    pid = os.fork()
    if pid == 0:
        requests.close()
        request, *others = descriptors
        with os.fdopen(request, "rb") as stream:
            asked = json.load(stream)
        _work(asked, others, forker)
    return pid


def _reap() -> None:
    """Wait for jobs that have ended: the CPU seconds of a child that nobody waits for are counted nowhere."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            continue


def _work(request: Mapping[str, Any], descriptors: Sequence[int], forker: int) -> None:
    """Do the job and exit; runs in the forked process, never returns."""
    output, result, *_ = descriptors
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != forker:
            os._exit(1)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    value: Any
    try:
        value = JOBS[request["job"]](**request["arguments"])
    except BaseException as error:  # whatever it is, the parent should hear of it
        expected = isinstance(error, (InputError, OperationError, OSError))
        value = error if expected else RuntimeError(f"a bug in facet or a library: {error!r}")
        value.add_note("".join(traceback.format_exception(error)))
        if not expected:
            traceback.print_exc()  # who reads the output of a job often keeps of its error the message alone
    sys.stdout.flush()
    sys.stderr.flush()
    # the result is at its end when this process is: its descriptor is left open
    with os.fdopen(result, "wb", closefd=False) as stream:
        pickle.dump(value, stream)
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
