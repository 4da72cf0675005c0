"""Prepares a worker's workspace with the inputs that result_transfer sent, as the coordinator wants stages to run.

Called in a process of its own, made by the fork server, with that workspace as its working directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.execution import dvc_patches
from pipeline.workers.result_transfer import made_by, opened, read
from pipeline.workspaces import own_data

OF_OUTPUTS = ("data", "initial")
"""Folders that hold outputs beside what nobody makes: through a link, DVC would remove the clone's own."""


def receive(reads: Mapping[str, Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]], own: str) -> str:
    """Bring this clone to the state in which stages are to run; return why that is impossible, or "".

    Args:
        reads: of the coordinator's offer.
        inputs: of the coordinator's offer.
        own: this machine's own clone; what nobody makes and git does not have is linked from there. A data set with a
            `root` is listed here, from the folder of that name on this machine.
    """
    _borrow(Path(own))
    with opened("") as repo:
        for given in inputs:
            _materialise(repo, given)
        own_data.look(Path.cwd())
        stages = {address: repo.stage.get_target(address) for address in reads}
        made = made_by(stages.values())
        for address, stage in stages.items():
            needed = [dep for dep in stage.deps if dep.fs_path not in made]
            if missing := [path for dep in needed if (path := _link_own(dep, Path(own)))]:
                return f"{', '.join(missing)}: not the output of a stage and not in {own}: put or link it there"
            if different := _difference(reads[address], read(stage, made)):
                return different
    return ""


def _borrow(own: Path) -> None:
    """Configure this workspace to use cache and remote of the clone that it belongs to."""
    from dvc.config import Config
    from dvc.repo import Repo

    source = Repo(str(own))
    with Config.from_cwd().edit("local") as settings:
        # links where the file system has no cheap copies: each training run has a workspace of its own
        settings["cache"] |= {"dir": str(source.cache.local_cache_dir), "type": "reflink,hardlink,symlink,copy"}
        settings["core"] |= {name: source.config["core"][name] for name in ("remote",) if name in source.config["core"]}
        for name, remote in source.config["remote"].items():
            settings["remote"][name] = dict(remote)
    source.close()


def _materialise(repo: Any, given: Mapping[str, Any]) -> None:
    """Put the outputs of another stage into the workspace, as the coordinator had them."""
    real = repo.stage.get_target(given["address"])
    cached = dvc_patches.stage_of(repo, given["entry"], real.wdir)
    # metrics that git keeps must not become links into the cache
    in_git = {out.def_path for out in real.outs if not out.use_cache}
    for out in cached.outs:
        if out.exists and not out.changed_checksum():
            continue
        for objects in out.get_used_objs().values():
            repo.cloud.pull(objects)
        if out.def_path in in_git:
            with dvc_patches.as_copies(repo):
                out.checkout(force=True)
        else:
            out.checkout(force=True)


def _link_own(dep: Any, own: Path) -> str:
    """Link missing files from this machine's own clone; return the first path that it lacks too."""
    if dep.protocol != "local" or dep.exists:
        return ""
    root = Path.cwd()
    path = Path(dep.fs_path).relative_to(root)
    if path.parts[0] in OF_OUTPUTS:
        return path.as_posix()
    for part in [*reversed(path.parents[:-1]), path]:
        if (root / part).is_dir():
            continue
        if not (own / part).exists():
            return path.as_posix()
        (root / part).symlink_to((own / part).resolve())
        return "" if (root / path).exists() else path.as_posix()
    return path.as_posix()


def _difference(wanted: Mapping[str, Any], has: Mapping[str, Any]) -> str:
    """Return how this clone differs from the coordinator, in words; "" if it does not."""
    if wanted["cmd"] != has.get("cmd"):
        return f"the command differs: {has.get('cmd')!r} here, {wanted['cmd']!r} there"
    there = {dep["path"]: dep for dep in wanted["deps"] or ()}
    here = {dep["path"]: dep for dep in has.get("deps") or ()}
    paths = sorted(path for path in there.keys() | here.keys() if not _same(there.get(path), here.get(path)))
    if wanted["params"] != has.get("params"):
        paths.append("parameters")
    return f"this clone differs from the coordinator in {', '.join(paths[:5])}" if paths else ""


def _same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    # sizes are told beside hashes, and not always
    return (one or {}).get("md5") == (other or {}).get("md5")
