"""Transfers the newest checkpoint of a training run through the DVC remote, for another machine to go on from.

Below the remote's folder, beside its objects:

    checkpoints/NAME/last.json             the folders that were pushed completely last
    checkpoints/NAME/KEY/step-NNNNNNNNNN   their files

NAME is that of the training run's workspace, KEY the digest of all that decides its result: a training resumes from no
other's state. `push`, `pull` and `remove` are called in a process of its own, made by the fork server, with that
workspace as its working directory. Where `FACET_HOME` is an absolute path, all workspaces share one folder of
checkpoints: of two training runs at a time the newer checkpoint may be pushed, and the other begins anew elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.base import environment
from pipeline.execution.fork_server import Forker
from pipeline.workers.remote_calls import Calls
from pipeline.workers.result_transfer import opened, remote_folder
from stages.core.errors import InputError

VARIABLE = "FACET_PUSH_CHECKPOINTS"
LAST = "last.json"
MANIFEST = "checkpoint.json"
STEP = "step-" + "[0-9]" * 10
FOLDER = re.compile(r"\w+/step-[0-9]{10}")

Say = Callable[[str], None]


def interval_s() -> float:
    """Return the seconds between two looks for a newer checkpoint: ``FACET_PUSH_CHECKPOINTS``; 0: nothing is pushed.

    Raises:
        ValueError: it is no number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    try:
        return max(0.0, float(text or 0))
    except ValueError as error:
        raise InputError(f"{VARIABLE}={text}: wanted seconds between two looks for a newer checkpoint, or 0") from error


class Pushing:
    """Pushes newer checkpoints of a workspace from time to time while it is entered, and the last one as it is left."""

    def __init__(self, name: str, forker: Forker, say: Say) -> None:
        self.name, self.forker, self.say = name, forker, say
        self.every_s, self.left = interval_s(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self.calls = Calls()

    def __enter__(self) -> Pushing:
        if self.every_s:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        if self.every_s:
            self.thread.join()
            self._push()

    def pull(self) -> None:
        """Get what another machine pushed, unless this workspace has checkpoints itself."""
        if self.every_s and not any(_folders()):
            self._call(pull, "gone on from {}, which another machine pushed")

    def remove(self) -> None:
        """Remove from the remote what is not needed any more."""
        if self.every_s:
            self._call(remove, "")

    def _run(self) -> None:
        while not self.left.wait(self.every_s):
            self._push()

    def _push(self) -> None:
        self._call(push, "pushed checkpoint {}")

    def _call(self, function: Callable[[str], str], sentence: str) -> None:
        """Call one of the functions below; a remote that cannot be used costs the copies and not the training."""
        try:
            done = self.calls.call(self.forker, function, name=self.name)
        except (ValueError, LookupError, RuntimeError, OSError) as error:
            self.say(f"checkpoints are not pushed to the DVC remote or pulled from it: {error}")
            return
        if done and sentence:
            self.say(sentence.format(done))


def push(name: str) -> str:
    """Push the newest checkpoint, with the best one that it names; return which, or "" if the remote has it already."""
    if not (wanted := _newest()):
        return ""
    with _remote(name) as (fs, home):
        before = _read(fs, home)
        if wanted == before:
            return ""
        for folder in (each for each in wanted if each not in before):
            target = fs.join(home, *Path(folder).parts)
            fs.makedirs(target, exist_ok=True)
            for path in sorted((_home() / folder).iterdir()):
                fs.put_file(str(path), fs.join(target, path.name))
        # last: who reads it finds all files of what it names
        fs.write_text(fs.join(home, LAST), json.dumps(wanted))
        for folder in (each for each in before if each not in wanted):
            fs.rm(fs.join(home, *Path(folder).parts), recursive=True)
    return wanted[-1]


def pull(name: str) -> str:
    """Get the checkpoint that was pushed last; return which, or "" if there is none."""
    with _remote(name) as (fs, home):
        wanted = _read(fs, home)
        finals = [_home() / folder for folder in wanted]
        for folder, final in zip(wanted, finals, strict=True):
            aside = final.with_suffix(".partial")
            aside.mkdir(parents=True, exist_ok=True)
            for path in fs.find(fs.join(home, *Path(folder).parts)):
                fs.get_file(path, str(aside / fs.name(path)))
        # the newest last: a workspace that has it has the best one too
        for final in finals:
            final.with_suffix(".partial").replace(final)
    return wanted[-1] if wanted else ""


def remove(name: str) -> str:
    """Remove what was pushed of a training run that has succeeded."""
    with _remote(name) as (fs, home):
        if fs.exists(home):
            fs.rm(home, recursive=True)
    return ""


def _home() -> Path:
    return environment.state_folder(Path.cwd()) / "checkpoints"


def _folders() -> Iterator[Path]:
    yield from _home().glob(f"*/{STEP}")


def _newest() -> list[str]:
    """Return the folders of the newest complete checkpoint, itself last; none if there is none, or it just goes."""
    with suppress(OSError, ValueError, KeyError):
        latest = max(_folders(), key=lambda path: path.stat().st_mtime, default=None)
        if latest is not None:
            # as the training that was written to last would choose
            newest = max(latest.parent.glob(STEP))
            best = json.loads((newest / MANIFEST).read_text(encoding="utf-8"))["best_step"]
            steps = {} if best is None else {f"step-{best:010d}": None}
            return [f"{newest.parent.name}/{step}" for step in steps | {newest.name: None}]
    return []


@contextmanager
def _remote(name: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system of the DVC remote, and the folder of a training run's checkpoints in it."""
    with opened("") as repo:
        remote = remote_folder(repo)
        yield remote.fs, remote.fs.join(remote.path, "checkpoints", name)


def _read(fs: Any, home: str) -> list[str]:
    """Return the folders that were pushed completely last."""
    path = fs.join(home, LAST)
    found = [str(each) for each in json.loads(fs.read_text(path))] if fs.exists(path) else []
    if strange := [each for each in found if not FOLDER.fullmatch(each)]:
        raise InputError(f"{path} names {strange[0]}: wanted KEY/step-NNNNNNNNNN")
    return found
