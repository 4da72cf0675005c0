"""A side workspace: a copy of the project's current files with another params.yaml, on the same cache.

DVC's templates read params.yaml, so runs that shall not stand there need another one. The workspace is a folder
under ``.facet`` with a snapshot of the project's files and the files that its kind generates. It shares DVC's cache
with the project and with other workspaces: what any of them made is restored, not run again.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.base import workspace
from pipeline.base.workspace import Workspace
from stages.core.errors import OperationError, UnknownNameError
from stages.runtime import files, yaml_text

GENERATED = ("dvc.yaml", "params.yaml")
RUNS = "${runs}"
OF_TABLES = {"row": "${rows}", "tabulate": "${tables}"}
OTHER = re.compile(r"\$\{(?!key\}|item[.}])")
"""In a template: something else than the run that it is repeated for."""
NOT_COPIED = ("results/", "docs/", "tests/", "benchmarks/", ".dvc/", "pipeline/")
"""`pipeline/` runs a workspace from outside: an older copy in it would have to understand the project's."""


class OtherWorkError(OperationError):
    """A workspace is in use for a different request."""

    exit_code = 1


@contextmanager
def opened(root: Path, path: Path, generated: Callable[[], Mapping[str, Mapping[str, Any]]]) -> Iterator[bool]:
    """Update the workspace at ``path`` and hold it for the duration of the block.

    Args:
        root: of the project.
        path: of the workspace.
        generated: what the YAML files are that are not the project's own, by name.

    Yields:
        Whether it could be brought up to date: not while another process runs in it, whose code must not change
        under it.

    Raises:
        OtherWorkError: another process runs in it, with another params.yaml.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        trees = generated()
        if alone:
            _refresh(root, path, trees)
        # waits while another process brings it up to date; going from one lock to the other, another may slip in
        fcntl.flock(stream, fcntl.LOCK_SH)
        _refuse_other_work(path, trees["params.yaml"])
        yield alone


@contextmanager
def kept(where: Workspace) -> Iterator[None]:
    """Keep a workspace beside the project as it is while the block runs, whoever has opened it.

    Raises:
        LookupError: there is none of that name.
    """
    if where.kind == "project":
        yield
        return
    if not (where.folder / "params.yaml").is_file():
        there = ", ".join(one.text for one in workspace.side_workspaces(where.project)) or "none"
        raise UnknownNameError(f"no workspace {where.text}: there are {there}")
    with (where.folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def graph(root: Path, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the dvc.yaml files of a workspace: the project's main one, one for each run and one for each table.

    Each has a small dvc.lock, which DVC reads and writes whole whenever it runs a stage of it. Files under ``graph/``
    that do more than repeat stages for every run are copied as they are.

    Args:
        root: of the project.
        params: the workspace's params.yaml.
    """
    tree = yaml_text.read(root / "dvc.yaml")
    # records of a side workspace are made by the flow
    main = {"stages": {name: stage for name, stage in tree["stages"].items() if name != "track"}}
    repeated = {name: stage for stages in _repeated(root).values() for name, stage in stages.items()}
    files: dict[str, dict[str, Any]] = {"dvc.yaml": main}
    # neither a run nor a table has a dash in its name, so that no folder of the project's is called so
    for run, own in params["runs"].items() if repeated else ():
        files[f"graph/run-{run}/dvc.yaml"] = {"vars": [{"runs": {run: dict(own)}}], "stages": repeated}
    there = [name for name, of in OF_TABLES.items() if main["stages"].get(name, {}).get("foreach") == of]
    of_tables = {name: _from_below(main["stages"].pop(name)) for name in there}
    for table in params["tables"] if of_tables else ():
        rows = {name: dict(row) for name, row in params["rows"].items() if row["table"] == table}
        own = {"rows": rows, "tables": {table: dict(params["tables"][table])}}
        files[f"graph/table-{table}/dvc.yaml"] = {"vars": [own], "stages": of_tables}
    return files


def _from_below(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a repeated stage of the main dvc.yaml as it is written two folders below."""
    return {**stage, "do": {"wdir": "../..", **stage["do"]}}


def _repeated(root: Path) -> dict[str, dict[str, Any]]:
    """Return the stages of each file under ``graph/`` that repeats them for every run and reads nothing but the run."""
    found = {}
    for path in sorted(root.glob("graph/*/dvc.yaml")):
        text = path.read_text(encoding="utf-8")
        stages = yaml_text.parse(text)["stages"]
        if all(stage.get("foreach") == RUNS for stage in stages.values()) and not OTHER.search(text.replace(RUNS, "")):
            found[path.relative_to(root).as_posix()] = stages
    return found


def _refuse_other_work(path: Path, asked: Mapping[str, Any]) -> None:
    file = path / "params.yaml"
    text = file.read_text(encoding="utf-8") if file.is_file() else "{}"
    if text == _as_yaml(asked):
        return
    there = yaml_text.parse(text)
    differs = ", ".join(sorted(key for key in {*there, *asked} if there.get(key) != asked.get(key)))
    raise OtherWorkError(
        f"another process is running {_work(there)} in {path}, but this command requests {_work(asked)}"
        f" (difference: {differs or 'order'}): wait until it ends, or repeat the command that started it"
    )


def _work(params: Mapping[str, Any]) -> str:
    """Return the work that a params.yaml describes, in words."""
    tables, count = ", ".join(params.get("tables") or {}), len(params.get("runs") or {})
    return f"{count} training run{'' if count == 1 else 's'}" + (f" of {tables}" if tables else "")


def _refresh(root: Path, path: Path, generated: Mapping[str, Mapping[str, Any]]) -> None:
    split = _repeated(root)
    wanted = [*_copy(root, path, split), *generated]
    for name, tree in generated.items():
        _write_yaml(path / name, tree)
    listing = path / ".files.json"
    before = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else []
    # the locks are of an earlier version, which copied the files that are split now
    for name in (set(before) - set(wanted)) | {name.replace("dvc.yaml", "dvc.lock") for name in split}:
        _remove(path, path / name)
    _write(path / ".dvc/config", "")
    _write(path / ".dvc/config.local", _dvc_config(root))
    _write(listing, json.dumps(wanted))


def absolute_roots(root: Path, datasets: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the section `datasets` of params.yaml with absolute paths, valid from another folder."""
    found = {name: dict(entry or {}) for name, entry in datasets.items()}
    for entry in found.values():
        for field in ("root", "same"):
            if entry.get(field):
                entry[field] = str((root / entry[field]).resolve())
    return found


def _copy(root: Path, path: Path, split: Container[str]) -> list[str]:
    """Copy the files that git tracks or would, where they differ, except those in ``split``. Return what was copied."""
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, errors="surrogateescape", check=False,
    )  # fmt: skip
    if answer.returncode:
        raise OperationError(f"a workspace is a copy of the files in git, and git failed: {answer.stderr.strip()}")
    wanted = [
        name
        for name in answer.stdout.split("\0")
        if name and name not in GENERATED and name not in split and _is_wanted(name) and (root / name).is_file()
    ]
    for name in wanted:
        source, target = root / name, path / name
        if not _same(source, target):
            with files.replacing(target) as aside:
                shutil.copy2(source, aside)
    return wanted


def _remove(path: Path, file: Path) -> None:
    """Remove a file, and folders above it in which nothing is left but bytecode.

    Python would take an empty ``pipeline/`` for the package of that name.
    """
    file.unlink(missing_ok=True)
    for folder in file.parents:
        if folder == path or not folder.is_dir() or any(entry.name != "__pycache__" for entry in folder.iterdir()):
            return
        shutil.rmtree(folder)


def _is_wanted(name: str) -> bool:
    return not name.startswith(NOT_COPIED) and not name.endswith("dvc.lock")


def _same(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _dvc_config(root: Path) -> str:
    """Return DVC's settings: the project's cache, linked where possible, and no SCM."""
    cache = cache_folder(root)
    return (
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        f'[cache]\n    dir = {cache}\n    type = "reflink,hardlink,copy"\n'
    )


def cache_folder(root: Path) -> Path:
    """Return where the project's DVC keeps its cache: ``cache.dir`` of its configuration, else ``.dvc/cache``."""
    from configobj import ConfigObj  # type: ignore[import-untyped]

    found = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        path = root / ".dvc" / name
        section = ConfigObj(str(path)).get("cache", {}) if path.is_file() else {}
        if "dir" in section:
            found = path.parent / Path(section["dir"]).expanduser()
    return found.resolve()


def _write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    _write(path, _as_yaml(tree))


def _as_yaml(tree: Mapping[str, Any]) -> str:
    return yaml_text.dump(dict(tree))


def _write(path: Path, text: str) -> None:
    """Write a file only if it differs: a new time would make DVC hash it again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with files.replacing(path) as aside:
            aside.write_text(text, encoding="utf-8")
