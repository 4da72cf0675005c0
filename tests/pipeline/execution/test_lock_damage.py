"""Lock files on a disk that fills: none is left half, and one that is found half is told with the way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.execution import lock_damage
from pipeline.tracking import lineage
from tests.pipeline.dummy import Dummy

FULL = """
import resource, signal, sys
from pathlib import Path
from dvc.repo import Repo
from pipeline.execution import lock_entries
lock_entries.install()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails, as one on a full disk does
with Repo() as repo, repo.lock:
    (stage,) = repo.stage.collect(sys.argv[1])
    stage.save_deps()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        stage.dump(update_pipeline=False)
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("before", ["", "# mine\n"], ids=["not there yet", "left to DVC"])
@pytest.mark.parametrize("room", [0, 40])
def test_a_lock_file_that_does_not_fit_is_as_it_was(make_dummy: Callable[..., Dummy], before: str, room: int) -> None:
    project = make_dummy(1)
    path = project.path / "dvc.lock"
    if before:
        project.run("dvc", "repro", "resolve")
        path.write_text(path.read_text() + before)
    text = path.read_bytes() if before else None
    there = {file.name for file in project.path.iterdir()}
    answer = project.run(sys.executable, "-c", FULL, "unpack", str(room))
    assert answer.stdout.endswith("OSError\n")
    assert (path.read_bytes() if path.exists() else None) == text
    assert {file.name for file in project.path.iterdir()} == there


@pytest.mark.parametrize("end", ["", "sche", "stages:\n", "- pa"])
def test_every_way_of_being_cut_short_is_seen(tmp_path: Path, end: str) -> None:
    whole = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    deps:\n    - path: y\n      md5: ab12\n"
    (tmp_path / "dvc.lock").write_text(whole)
    assert lock_damage.sentence(tmp_path) is None
    (tmp_path / "dvc.lock").write_text(whole[: whole.index(end) + len(end)])
    assert str(lock_damage.sentence(tmp_path)).startswith("dvc.lock: wanted a lock file of DVC")


@pytest.mark.parametrize("name", ["dvc.lock", "graph/train_backbone/dvc.lock"])
def test_a_lock_file_that_is_cut_short_is_told_with_the_way_out_which_works(
    make_dummy: Callable[..., Dummy], name: str
) -> None:
    project = make_dummy(1)
    project.run("dvc", "repro")
    path = project.path / name
    whole = path.read_text()
    path.write_text(whole[: whole.index("- path") + 4])
    for command in ("status", "run"):
        said = project.facet(command, code=2).stderr.splitlines()
        assert len(said) == 1
        assert said[0].startswith(f"error: {name}: wanted a lock file of DVC, got one that is empty or cut short")
        assert "remove it" in said[0]
    path.unlink()
    project.run("dvc", "repro")
    counts = project.counts("end")  # a table is made again: it is not in DVC's cache
    assert (counts["resolve"], counts["unpack"], counts["train_backbone@r0"]) == (1, 1, 1)
    assert path.read_text() == whole


def test_a_lock_file_with_a_merge_in_it_is_a_persons(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n<<<<<<< ours\n  a:\n")
    assert lock_damage.sentence(tmp_path) is None


def test_what_was_recorded_is_not_read_from_half_a_file(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  a:\n    cmd: x\n    deps:\n    - pa")
    with pytest.raises(ValueError, match=r"^dvc\.lock: wanted a lock file of DVC"):
        lineage.read(tmp_path)
