"""Quick starts of `dvc` and of the programs that it runs: forks of a process that has imported what they import.

Most of a test of whole projects would be imports: seconds of PyTorch for each stage. Programs named `dvc` and `python` stand
first in the PATH of `dvc` in such a project. They ask a server for a fork that runs ``python -m MODULE ARGUMENT ...`` with
their arguments, environment, folder and files, pass SIGTERM and SIGINT on to it, and end as it does. Anything else they run
as it is.

    python -m tests.quick_start SOCKET

The server starts where the first test asks for it, and ends with the process of that test. Tests of how stages are killed do
not run `dvc` in a `Project`: a fork is the server's child, and not its client's.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.execution import fork_server

# fmt: off
IMPORTED = (
    "torch", "torch.utils.data", "numpy", "pandas", "cv2", "scipy.stats", "yaml", "pyarrow.parquet", "safetensors",
    "simplejpeg", "pydantic.json_schema", "pydantic.root_model", "matplotlib.backends.backend_svg", "matplotlib.figure",
    # what an export of a model imports
    "torch._dynamo", "torch._inductor.remote_cache", "torch.export._trace", "torch.export.passes", "torch.onnx",
)
# fmt: on
CLIENT = """\
#!{interpreter} -SE
import json, os, signal, socket, sys
words = sys.argv[1:]
if {name!r} == "dvc":
    module, rest = "dvc", words
elif words[:1] == ["-m"] and words[1:]:
    module, rest = words[1], words[2:]
else:
    os.execv({interpreter!r}, [{interpreter!r}, *words])
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.connect({address!r})
request = json.dumps([module, rest, os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
asked = os.memfd_create("request")
os.write(asked, request)
socket.send_fds(server, [b"1"], [asked, 0, 1, 2])
pid = int.from_bytes(server.recv(8), "big")
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
status = int.from_bytes(server.recv(8), "big", signed=True)
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.waitstatus_to_exitcode(status) % 256)
"""


@dataclass(frozen=True)
class Asked:
    """A program to run, as its client asks for it."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]


class Server:
    """Forks itself for each program that is asked for, and tells who asked how that ended."""

    def __init__(self, address: str) -> None:
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(address)
        self.listening.listen(64)
        self.clients: dict[int, socket.socket] = {}
        self.woken, wakes = socket.socketpair()
        for each in (self.woken, wakes):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno())
        self._wakes = wakes

    def serve(self) -> Asked:
        """Fork for one request after another; returns in each fork what it shall run."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.listening, selectors.EVENT_READ)
            selector.register(self.woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self.woken:
                        self.woken.recv(4096)
                        self._tell_ends()
                    elif (asked := self._take()) is not None:
                        return asked

    def _take(self) -> Asked | None:
        """Fork for a client; return what to run in the fork, None in the server."""
        client, _ = self.listening.accept()
        _, descriptors, _, _ = socket.recv_fds(client, 1, 4)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self.listening, self.woken, self._wakes, client, *self.clients.values()):
                each.close()
            return _become(descriptors)
        for each in descriptors:
            os.close(each)
        self.clients[pid] = client
        client.send(pid.to_bytes(8, "big"))
        return None

    def _tell_ends(self) -> None:
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self.clients.pop(pid) as client:
                client.send(status.to_bytes(8, "big", signed=True))


def _become(descriptors: list[int]) -> Asked:
    """Take over a client's files, folder and environment."""
    request, *files = descriptors
    os.lseek(request, 0, os.SEEK_SET)
    with os.fdopen(request, "rb") as stream:
        asked = Asked(*json.loads(stream.read().decode("utf-8", "surrogateescape")))
    for number, each in enumerate(files):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(asked.environment)
    os.chdir(asked.folder)
    return asked


def main(address: str) -> None:
    """Serve until the process that started this one ends."""
    ctypes.CDLL(None).prctl(fork_server.PR_SET_PDEATHSIG, signal.SIGKILL)
    for name in IMPORTED:
        importlib.import_module(name)
    fork_server.import_dvc()
    # a project has a copy of these, in which a test may have changed something
    for name in [name for name in sys.modules if name.partition(".")[0] in {"stages", "pipeline", "tests"}]:
        del sys.modules[name]
    if threading.active_count() != 1:
        raise RuntimeError(f"a fork would lack threads that an import has started: {threading.enumerate()}")
    gc.freeze()
    asked = Server(address).serve()
    sys.path[0] = asked.folder
    sys.argv = [asked.module, *asked.arguments]
    runpy.run_module(asked.module, run_name="__main__", alter_sys=True)


def _end(process: subprocess.Popen[bytes], made: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(made, ignore_errors=True)


@functools.cache
def folder() -> Path:
    """Start the server, once in each process, and return the folder of the programs that ask it."""
    made = Path(tempfile.mkdtemp(prefix="quick-"))
    address = made / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.quick_start", str(address)],
        cwd=Path(__file__).parent.parent, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
    )
    atexit.register(_end, process, made)
    for name in ("dvc", "python"):
        program = made / name
        program.write_text(CLIENT.format(interpreter=sys.executable, name=name, address=str(address)))
        program.chmod(0o755)
    while not address.exists():
        if process.poll() is not None:
            raise RuntimeError("the server of quick starts ended as it began")
        time.sleep(0.05)
    return made


if __name__ == "__main__":
    main(sys.argv[1])
