"""The coordinator's workspace as a commit: what is not committed goes too, and nothing of the user's changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base import workspace
from pipeline.workers import code_transfer
from tests.machines.network import WHO, Network
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

pytestmark = pytest.mark.slow


def test_a_snapshot_has_what_is_not_committed_and_changes_nothing(tmp_path: Path) -> None:
    project = dummy.make(tmp_path / "project", 1)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start", **WHO)
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert code_transfer.snapshot(project.path) == head
    project.edit("r0", margin=0.9)
    (project.path / "new.py").write_text("new\n")
    before = project.run("git", "status", "--porcelain").stdout
    commit = code_transfer.snapshot(project.path)
    assert commit != head
    assert "margin: 0.9" in project.run("git", "show", f"{commit}:params.yaml").stdout
    assert project.run("git", "show", f"{commit}:new.py").stdout == "new\n"
    assert project.run("git", "status", "--porcelain").stdout == before
    assert code_transfer.snapshot(project.path) == commit


def test_a_large_file_that_git_does_not_know_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = dummy.make(tmp_path / "project", 1)
    project.run("git", "commit", "-qm", "start", "--allow-empty", **WHO)
    monkeypatch.setattr(code_transfer, "MAX_UNTRACKED", 100)
    with pytest.raises(ValueError, match=r"neither in git nor ignored: .*put it under DVC or into .gitignore"):
        code_transfer.snapshot(project.path)


def test_without_a_git_remote_the_error_says_what_to_add(tmp_path: Path) -> None:
    project = dummy.make(tmp_path / "project", 1)
    with pytest.raises(LookupError, match=r"remotes of this clone are none: run `git remote add origin URL`"):
        code_transfer.remote_of(project.path)


def test_each_run_has_a_reference_of_its_own_to_the_same_commit(tmp_path: Path) -> None:
    network = Network(tmp_path, "", str(tmp_path / "store"))
    network.found(1)
    coordinator, other = network.machine("coordinator"), network.machine("other")
    coordinator.edit("r0", margin=0.9)
    commit = code_transfer.snapshot(coordinator.path)
    first, second = (code_transfer.reference(commit, run) for run in ("one", "two"))
    for name in (first, second):
        code_transfer.push(coordinator.path, commit, name)
    code_transfer.remove(coordinator.path, first)
    tree = tmp_path / "tree"
    code_transfer.check_out(other.path, tree, commit, second)
    assert Dummy(tree).params()["runs"]["r0"]["margin"] == 0.9
    code_transfer.remove(coordinator.path, second)
    assert network.references() == ["refs/heads/main"]


def test_a_copied_folder_is_another_workspace(tmp_path: Path) -> None:
    first = workspace.identity(tmp_path / "one")
    assert workspace.identity(tmp_path / "one") == first
    (tmp_path / "one").rename(tmp_path / "two")
    assert workspace.identity(tmp_path / "two") != first
