"""Pieces of work of `pipeline/` that write files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from pipeline.base import environment
from pipeline.execution import deferred_commit, history, lock_entries, stage_log
from pipeline.execution.stage_result import StageResult
from pipeline.servers import daemons
from pipeline.servers.daemons import Service
from pipeline.tracking import recorded_ids
from pipeline.tracking.recorded_ids import RecordedIds
from pipeline.workspaces import snapshot
from tests.operations.case import Case
from tests.operations.reading import texts

SIDE = Path(".facet/sweeps/s")


def _repository(foreign: bool = False) -> None:
    """Make a DVC repository of two stages that have run; ``foreign``: with a lock file that is left to DVC."""
    from dvc.repo import Repo

    Path("graph/x").mkdir(parents=True)
    Path("in.txt").write_text("1")
    stage = "  {0}:\n    cmd: cp ../../in.txt {0}.txt\n    deps: [../../in.txt]\n    outs: [{0}.txt]\n"
    Path("graph/x/dvc.yaml").write_text("stages:\n" + stage.format("a") + stage.format("b"))
    Repo.init(no_scm=True)
    with Repo() as repo:
        repo.reproduce(["graph/x/dvc.yaml"])
    if foreign:
        path = Path("graph/x/dvc.lock")
        path.write_text(path.read_text() + "# mine\n")
    Path("in.txt").write_text("2")


def _note_entries() -> None:
    """Write the entry of a stage as it is written after it has run."""
    from dvc.repo import Repo

    lock_entries.install()
    with Repo() as repo, repo.lock:
        (stage,) = repo.stage.collect("graph/x/dvc.yaml:b")
        stage.save_deps()
        stage.dump(update_pipeline=False)


def _lock_file() -> dict[str, Any]:
    """Return the lock file once DVC has read it."""
    from dvc.repo import Repo

    with Repo() as repo:
        assert len(repo.stage.collect("graph/x/dvc.yaml")) == 2
    return texts("graph/x/dvc.lock")


def _flow_run(number: int) -> history.FlowRun:
    return history.FlowRun(f"id-{number}", 1 + number, 1.0, "completed")


def _journals(number: int) -> None:
    root = Path()
    if number not in [attempt.command_s for attempt in history.attempts(root)]:
        history.add_attempt(root, StageResult("executed", "m" * 300, float(number), address=f"a{number}", ended=1.0))
    history.write_last_run(root, history.LastRun(f"id-{number}", "n", "completed"))
    history.write_open(root, _flow_run(number))
    history.forget(root, _flow_run(number - 1))


def _journalled() -> dict[str, Any]:
    root = Path()
    last = history.last_run(root)
    found = {attempt.address: attempt.message for attempt in history.attempts(root)}
    found |= {one.flow_run_id: one.state for one in history.unsettled(root)}
    return found | {"last": last.flow_run_id if last else None}


def _records(number: int) -> None:
    root = Path()
    environment.write_json(environment.state_folder(root) / "workspace.json", {"path": "p", "identity": str(number)})
    daemons.write(root, {"prefect": Service("prefect", "http://127.0.0.1:1", number, 1.0)})
    recorded_ids.write(root, "sqlite:///x", RecordedIds({"k": str(number)}))


def _notes() -> None:
    deferred_commit.reserve(Path(), "train")
    deferred_commit.forget(Path(), "unpack")


def _project() -> None:
    """Make a small project in git, and a side workspace of an earlier state."""
    for name, text in {
        "dvc.yaml": "stages: {}\n", "params.yaml": "runs: {}\n", "stages/one.py": "1\n", "stages/two/x.py": "2\n",
        ".gitignore": "/.facet/\n",
    }.items():  # fmt: skip
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    Path(".dvc").mkdir()
    subprocess.run(["git", "init", "-q"], check=True)
    _side(1)
    Path("stages/two/x.py").unlink()
    Path("stages/one.py").write_text("1, changed\n")


def _side(number: int) -> None:
    trees = {"params.yaml": {"runs": {f"r{number}": {}}, "more": "m" * 900}, "dvc.yaml": {"stages": {}}}
    with snapshot.opened(Path(), SIDE, lambda: trees):
        pass


def _side_files() -> dict[str, Any]:
    found = texts(f"{SIDE}/**/*", f"{SIDE}/.files.json", f"{SIDE}/.dvc/*")
    return {name: text for name, text in found.items() if not name.endswith(".lock")}


def _log(number: int) -> None:
    log = stage_log.StageLog(Path("logs"), "train")
    os.environ[stage_log.MEASUREMENTS] = str(log.measurements)
    log.append(f"begins {number}")
    stage_log.begin()
    log.append(f"ends {number}")
    log.close(failed=False)


CASES = [
    Case(
        "lock entry", "of a stage, in a dvc.lock with two",
        ("pipeline.execution.lock_entries._dump_stages", "pipeline.execution.lock_entries._write",
         "pipeline.execution.lock_entries._aside"),
        _note_entries, _lock_file, _repository, within="graph",
    ),
    Case(
        "lock entry, by DVC", "in a dvc.lock that is left to DVC", ("pipeline.execution.lock_entries._modify_aside",),
        _note_entries, _lock_file, lambda: _repository(foreign=True), within="graph",
    ),
    Case(
        "journals of runs", "attempts of stages, open flow runs, the last run",
        ("pipeline.execution.history.add_attempt", "pipeline.execution.history.forget",
         "pipeline.base.environment.write_json"),
        lambda: _journals(2), _journalled, lambda: _journals(1), best_effort=True, stays=("*.partial",),
    ),
    Case(
        "records of servers and of MLflow", "services, the workspace's identity, IDs of MLflow's runs",
        ("pipeline.base.environment.write_json", "pipeline.tracking.recorded_ids.write"),
        lambda: _records(2), lambda: texts(".facet/*", "tracking/*"), lambda: _records(1), stays=("*.partial",),
    ),
    Case(
        "notes of stages", "that are committed later",
        ("pipeline.execution.deferred_commit.reserve", "pipeline.execution.deferred_commit.forget"),
        _notes, lambda: {}, lambda: deferred_commit.reserve(Path(), "unpack"), best_effort=True,
    ),
    Case(
        "side workspace", "files of a sweep's workspace, copied and generated",
        ("pipeline.workspaces.snapshot.opened", "pipeline.workspaces.snapshot._refresh", "pipeline.workspaces.snapshot._copy",
         "pipeline.workspaces.snapshot._remove", "pipeline.workspaces.snapshot._write"),
        lambda: _side(2), _side_files, _project,
    ),
    Case(
        "logs of a stage", "its lines, and the links to this run's and the last one's",
        ("pipeline.execution.stage_log.StageLog.append", "pipeline.execution.stage_log.StageLog.close",
         "pipeline.execution.stage_log.begin"),
        lambda: _log(2), lambda: {}, lambda: _log(1), best_effort=True,
    ),
]  # fmt: skip
