"""Lock files as typed entries: identity, what was made of what, and DVC's own hash of a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.tracking import lineage
from pipeline.tracking.lineage import Entry, Locked

TRAIN = Entry(
    "train@a", "train a", {"data/d/train": "1.dir", "code.py": "2"}, {"runs/a": "3.dir", "results/a/t.json": "4"}
)
MEASURE = Entry("measure@a", "measure a", {"runs/a": "3.dir", "data/d/eval": "5.dir"}, {"results/a/hq.json": "6"})
ROW = Entry("row@t-a", "row t-a a", {"results/a/hq.json": "6"}, {"results/tables/t/rows/t-a.json": "7"})
LOCKED = Locked({entry.name: entry for entry in (ROW, MEASURE, TRAIN)})


def test_upstream_follows_files_through_all_stages():
    assert [entry.name for entry in LOCKED.upstream("row@t-a")] == ["measure@a", "train@a"]
    assert LOCKED.upstream("train@a") == []


def test_a_folder_that_is_read_stands_for_what_was_written_into_it():
    tabulate = Entry("tabulate@t", "tabulate t", {"results/tables/t/rows": "8.dir"}, {"results/tables/t/report": "9"})
    locked = Locked({**LOCKED.entries, "tabulate@t": tabulate})
    assert [entry.name for entry in locked.upstream("tabulate@t")] == ["row@t-a", "measure@a", "train@a"]


def test_a_name_that_only_begins_alike_is_not_upstream():
    other = Entry("train@ab", "train ab", {}, {"runs/ab": "10.dir"})
    locked = Locked({**LOCKED.entries, "train@ab": other})
    assert "train@ab" not in [entry.name for entry in locked.upstream("row@t-a")]


def test_hashes_name_data_and_models_behind_a_stage_and_what_it_made():
    assert lineage.hashes(LOCKED, ROW) == {
        "data/d/train": "1.dir", "data/d/eval": "5.dir", "runs/a": "3.dir", "results/tables/t/rows/t-a.json": "7",
    }  # fmt: skip
    assert lineage.datasets(LOCKED, ROW) == (("d", "1.dir", "training"), ("d", "5.dir", "evaluation"))


def test_a_fingerprint_changes_with_everything_dvc_locks_and_with_nothing_else():
    entry = Entry("a", "cmd", {"in": "1", "other": "2"}, {"out": "3"}, {"p.yaml": {"x": 1}})
    same = Entry("a", "cmd", {"other": "2", "in": "1"}, {"out": "3"}, {"p.yaml": {"x": 1}})
    assert lineage.fingerprint(entry) == lineage.fingerprint(same)
    others = [
        Entry("a", "cmd2", entry.deps, entry.outs, entry.params),
        Entry("a", "cmd", {"in": "9", "other": "2"}, entry.outs, entry.params),
        Entry("a", "cmd", entry.deps, {"out": "9"}, entry.params),
        Entry("a", "cmd", entry.deps, entry.outs, {"p.yaml": {"x": 2}}),
    ]
    found = {lineage.fingerprint(one) for one in (entry, *others)} | {lineage.fingerprint(entry, "published")}
    assert len(found) == 6


def test_lock_files_of_the_root_and_of_the_graph_are_read(tmp_path: Path):
    files = {"dvc.lock": {"row@t-a": ROW}, "graph/train/dvc.lock": {"train@a": TRAIN}}
    for name, entries in files.items():
        tree = {"schema": "2.0", "stages": {
            key: {"cmd": one.cmd, "deps": [{"path": p, "hash": "md5", "md5": m, "size": 1} for p, m in one.deps.items()],
                  "outs": [{"path": p, "md5": m} for p, m in one.outs.items()]}
            for key, one in entries.items()
        }}  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(tree))
    assert lineage.read(tmp_path).entries == {"row@t-a": ROW, "train@a": TRAIN}


def test_without_lock_files_and_without_git_there_is_nothing(tmp_path: Path):
    assert lineage.read(tmp_path).entries == {}
    assert lineage.git_state(tmp_path) == {}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("mine", "hooked"):
        (tmp_path / name).mkdir()
        for command in ("git init -q", f"git -c user.name={name} -c user.email=t@localhost commit -q --allow-empty -m {name}"):
            subprocess.run(command.split(), cwd=tmp_path / name, check=True)
    return tmp_path / "mine"


def test_a_hook_of_another_repository_does_not_change_whose_commit_is_recorded(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    mine = lineage.git_state(checkout)
    assert mine["dirty"] == "false"
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / "hooked/.git"))
    assert lineage.git_state(checkout) == mine


def test_a_checkout_that_git_refuses_is_a_problem_and_not_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = lineage.git_state(checkout)
    assert list(found) == ["problem"]
    assert found["problem"].startswith("fatal: detected dubious ownership in repository at")


def test_a_checkout_without_a_commit_is_no_problem(tmp_path: Path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert lineage.git_state(tmp_path) == {}


def test_a_test_set_of_an_own_folder_is_a_data_set_of_its_own_with_its_digest():
    pins = {"pins/r.yaml": {"evaluate_hq": {"lfw": "a" * 64, "rfw": None}}, "resolved/runs/r.yaml": {"evaluate_hq": {"x": 1}}}
    evaluation = Entry("evaluate_hq@r", "e", {"data/mine/eval": "9.dir", "data/other/train": "1.dir"}, {"results/r/hq.json": "2"}, pins)
    locked = Locked({evaluation.name: evaluation})
    # what DVC has of an own folder's eval never changes; a set that is not there has no digest
    assert lineage.datasets(locked, evaluation) == (("mine/lfw", "a" * 64, "evaluation"), ("other", "1.dir", "training"))
