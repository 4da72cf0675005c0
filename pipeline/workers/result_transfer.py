"""Transfers what stages read and what they made between clones, only through DVC's objects and run cache.

The coordinator makes an `Offer`: the hashes of what some stages read of others, pushed to the DVC remote. A worker
brings its clone to that state, checks that it reads the same, runs the stages, and pushes of each the objects and its
one entry of the run cache. `dvc push --run-cache` would not do: it leaves out the objects of ``cache: false`` metrics,
and sends every entry there is again.

Each function is called in a process of its own, made by the fork server, with the project as its working directory.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.execution import dvc_patches
from stages.core.errors import InputError
from stages.runtime import files

UNABLE = "its results cannot be sent: DVC's run cache skips stages with `persist` outputs or without dependencies"


@dataclass(frozen=True)
class Offer:
    """Stages that another machine could run, or the reason to run the first of them here."""

    here: str = ""
    """Why it should run here; empty if it should be sent."""
    reads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By address, in order: command, parameters and dependencies, as dvc.lock writes them; but for what they make."""
    inputs: Sequence[Mapping[str, Any]] = ()
    """Outputs of other stages among them: each stage's ``address`` and its ``entry``."""


def offer(addresses: Sequence[str], above: Mapping[str, Sequence[str]], queue_path: str) -> Offer:
    """Decide whether to send the first of the stages; if so, push what it and those that can go with it read of others.

    A result that is here or on the remote already is fetched instead.

    Args:
        addresses: of stages that could run one after the other, as nothing else is missing.
        above: the stages whose outputs each of them reads.
        queue_path: the file behind which processes queue for DVC's lock.

    Raises:
        ValueError: the DVC remote cannot be used, or an input is not in DVC's cache.
    """
    from dvc.repo import lock_repo

    with opened(queue_path) as repo:
        with lock_repo(repo):
            first = repo.stage.get_target(addresses[0])
            if not first.changed():
                return Offer(here="it is up to date")
            if not dvc_patches.is_restorable(first):
                return Offer(here=UNABLE)
            first.save_deps()
            if not (key := dvc_patches.key(first)):
                return Offer(here=UNABLE)
            stages = _sendable(repo, addresses, above)
            wanted = {dep.fs_path for stage in stages.values() for dep in stage.deps if dep.protocol == "local"}
            others = sorted({each for address in stages for each in above[address]} - set(stages))
            inputs = [entry for each in others if (entry := _input(repo.stage.get_target(each), wanted))]
            reads = {address: read(stage, made_by(stages.values())) for address, stage in stages.items()}
        # without DVC's lock: others shall end their stages while these data travel
        if _fetch(repo, first, key):
            return Offer(here="its result is already on the remote")
        for given in inputs:
            _push(repo, dvc_patches.stage_of(repo, given["entry"]), str(given["address"]))
    return Offer("", reads, inputs)


def _sendable(repo: Any, addresses: Sequence[str], above: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the stages whose results can be sent, but for those that read of one whose result cannot."""
    kept: dict[str, Any] = {}
    for address in addresses:
        stage = repo.stage.get_target(address)
        if dvc_patches.is_restorable(stage) and not (set(above[address]) & set(addresses)) - set(kept):
            kept[address] = stage
    return kept


def fetch(address: str, key: str, value: str, queue_path: str) -> bool:
    """Fetch one result from the remote, so that reproducing the stage restores it; False if it is missing."""
    with opened(queue_path) as repo:
        return _fetch(repo, repo.stage.get_target(address), key, value)


def publish(address: str) -> tuple[str, str]:
    """Push the result of a stage that was run here; return its key and value in the run cache.

    Raises:
        ValueError: the remote did not take all of it.
    """
    from dvc.repo import lock_repo

    with opened("") as repo:
        with lock_repo(repo):
            stage = repo.stage.get_target(address)
            repo.stage_cache.save(stage)  # nothing happens if it is there
        key, value = dvc_patches.key(stage), dvc_patches.value(stage)
        entry = dvc_patches.entry(repo, key, value)
        if entry is None:
            raise InputError(f"{address}: DVC's run cache did not store its result")
        _push(repo, dvc_patches.stage_of(repo, entry), address)
        # the entry last: who finds it finds the objects too
        remote = remote_folder(repo)
        target = remote.fs.join(_folder(remote, key), value)
        remote.fs.makedirs(remote.fs.parent(target), exist_ok=True)
        remote.fs.put_file(str(dvc_patches.entry_path(repo, key, value)), target)
    return key, value


@contextmanager
def opened(queue_path: str) -> Iterator[Any]:
    """Open the project; DVC's errors become one sentence."""
    from dvc.exceptions import DvcException

    repo = dvc_patches.open_repo(Path.cwd(), Path(queue_path) if queue_path else None)
    try:
        yield repo
    except DvcException as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise InputError(" ".join(f"{error}{cause}".split())) from error
    finally:
        repo.close()


def made_by(stages: Iterable[Any]) -> set[str]:
    """Return the paths of what stages make."""
    return {out.fs_path for stage in stages for out in stage.outs}


def read(stage: Any, made: Collection[str]) -> dict[str, Any]:
    """Return the command, the parameters and the dependencies of a stage as they are now, but for those in ``made``."""
    from dvc.stage.serialize import to_single_stage_lockfile

    stage.deps = [dep for dep in stage.deps if not any(_overlap(Path(dep.fs_path), Path(each)) for each in made)]
    stage.save_deps()
    lock = to_single_stage_lockfile(stage)
    return {name: _plain(lock.get(name)) for name in ("cmd", "deps", "params")}


def _plain(value: Any) -> Any:
    """Convert DVC's nested dictionaries and lists to plain ones, to be sent as JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _input(above: Any, wanted: Iterable[str]) -> dict[str, Any] | None:
    """Return the part of a stage's entry in dvc.lock whose paths are ``wanted``."""
    from dvc.stage.serialize import to_single_stage_lockfile

    entry = _plain(to_single_stage_lockfile(above))
    paths = {out.def_path: Path(out.fs_path) for out in above.outs}
    entry["outs"] = [
        out
        for out in entry.get("outs", [])
        if any(_overlap(paths[out["path"]], Path(each)) for each in wanted) and ("md5" in out or "hash" in out)
    ]
    return {"address": above.addressing, "entry": entry} if entry["outs"] else None


def _overlap(first: Path, second: Path) -> bool:
    return first == second or first in second.parents or second in first.parents


def _push(repo: Any, cached: Any, address: str) -> None:
    """Push the objects of the stage that an entry describes."""
    for objects in cached.get_used_objs().values():
        if repo.cloud.push(objects).failed:
            raise InputError(f"{address}: not all of its outputs were pushed to the DVC remote")


def _fetch(repo: Any, stage: Any, key: str, value: str = "") -> bool:
    """Fetch a result into the cache of this clone: the entry ``value``, or any for ``key``."""
    entry = None if value else dvc_patches.newest_entry(repo, stage)
    if entry and dvc_patches.stage_of(repo, entry, stage.wdir).outs_cached():
        return True
    remote = remote_folder(repo)
    folder = _folder(remote, key)
    if value:  # a remote over HTTP cannot list a folder, but it has what one can name
        path = remote.fs.join(folder, value)
        return bool(remote.fs.exists(path)) and _fetch_entry(repo, remote, path, key, value)
    if not remote.fs.exists(folder):
        return False
    return any(_fetch_entry(repo, remote, path, key, remote.fs.name(path)) for path in remote.fs.find(folder))


def _fetch_entry(repo: Any, remote: Any, path: str, key: str, value: str) -> bool:
    target = dvc_patches.entry_path(repo, key, value)
    with files.replacing(target, shared=True) as aside:
        remote.fs.get_file(path, str(aside))
    os.utime(target)  # of several results DVC takes the newest
    entry = dvc_patches.entry(repo, key, value)
    if entry is None:
        return False
    stage = dvc_patches.stage_of(repo, entry)
    for objects in stage.get_used_objs().values():
        repo.cloud.pull(objects)
    return bool(stage.outs_cached())


def remote_folder(repo: Any) -> Any:
    """Return the folder of the DVC remote, in which its run cache lies.

    Raises:
        ValueError: there is no remote, or it is one that has none.
    """
    from dvc.config import ConfigError

    try:
        return repo.cloud.get_remote_odb(None, "run-cache", hash_name="md5-dos2unix")
    except ConfigError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"workers in clones need a DVC remote (`dvc remote add -d NAME URL`): {reason}") from error


def _folder(remote: Any, key: str) -> str:
    return str(remote.fs.join(remote.path, "runs", key[:2], key))
