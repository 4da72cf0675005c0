"""Disks fill up: really, on file systems of a few megabytes (tmpfs), where this user may mount them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import scene
from tests.faults.scene import Note
from tests.pipeline import dummy, sweep_project
from tests.pipeline.dummy import Dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Mount a small file system, or give it another size."""
    mounted: list[Path] = []

    def make(name: str, size: str) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True, exist_ok=True)
        option = f"remount,size={size}" if path in mounted else f"size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"a full disk needs a file system of its own, and mount says: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield make
    for path in set(mounted):
        for process in scene.processes_in(path):
            process.kill()
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_the_workspace_is_full(
    tmp_path: Path, small_disk: Callable[[str, str], Path], api_url: str, note: Note
) -> None:
    disk = small_disk("disk", "6m")
    project = scene.make(disk / "project", api_url)
    (tmp_path / "cache").mkdir()
    (project.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path}/cache\n")
    project.write_params(project.params() | {"bytes": 3_000_000, "steps": 20})
    answer = project.facet("run", "--jobs", "2", "--no-track", code=1)
    assert "No space left on device" in answer.stdout + answer.stderr
    scene.assert_no_orphan(project)
    scene.assert_nothing_is_half(project)
    small_disk("disk", "60m")
    scene.assert_the_next_run_finishes(project, trained_again=True)
    note("Disk full in the workspace", "the stage fails with `No space left on device` and is not tried again; no output is half written; Failed")


def test_the_cache_is_full(
    tmp_path: Path, small_disk: Callable[[str, str], Path], api_url: str, note: Note
) -> None:
    cache = small_disk("cache", "4m")
    project = scene.make(tmp_path / "project", api_url)
    (project.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
    project.write_params(project.params() | {"bytes": 3_000_000, "steps": 20})
    answer = project.facet("run", "--jobs", "2", "--no-track", code=1)
    assert "No space left on device" in answer.stdout + answer.stderr
    scene.assert_no_orphan(project)
    scene.assert_nothing_is_half(project)
    trained = project.counts("end")
    small_disk("cache", "60m")
    scene.assert_the_next_run_finishes(project)
    twice = [name for name, count in project.counts("end").items() if name.startswith("train") and count > trained[name] > 0]
    assert not twice
    note(
        "Disk full in DVC's cache",
        "the stage fails with `No space left on device`; Failed; its outputs are kept, and the next run with space commits them and trains nothing again",
    )


ONCE = """
from pathlib import Path
from pipeline.execution import reproduce
result = reproduce.reproduce(Path.cwd(), "unpack", Path(".facet/dvc-queue.lock"))
print(result.state, result.message)
"""


# where files of a folder do not fit, DVC goes on as if they did; on a full disk of the project's own, the note of what
# was made can only be written over
@pytest.mark.parametrize(
    ("made", "own_disk", "size"), [("file", True, "5m"), ("folder", False, "1200k"), ("folder", True, "2700k")]
)
def test_what_does_not_fit_into_the_cache_is_recorded_once_there_is_space(
    tmp_path: Path, small_disk: Callable[[str, str], Path], made: str, own_disk: bool, size: str
) -> None:
    disk = small_disk("disk", size)
    project = dummy.make((disk if own_disk else tmp_path) / "project", 1)
    (project.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {disk}/cache\n")
    program = project.path / "work.py"
    text = program.read_text().replace("path.write_text(text)", "path.write_text(text + 'x' * 3_000_000)")
    many = "[(path / f'{i}.txt').write_text(str(i) * 50_000) for i in range(30)]"
    program.write_text(text.replace('(path / "table.md").write_text(f"| {key} |\\n")', many))
    if made == "folder":
        graph = project.path / "dvc.yaml"
        graph.write_text(graph.read_text().replace("data/unpacked.txt", "data/unpacked"))
    assert project.run(sys.executable, "-c", ONCE).stdout.splitlines()[-1].startswith("failed")
    assert project.counts("end") == {"unpack": 1}
    # DVC records a folder of which its cache lacks files; on a full disk of the project's own it can write no entry
    assert project.lock_entries() == (set() if own_disk else {"unpack"})
    # there is no more space than before
    assert project.run(sys.executable, "-c", ONCE).stdout.splitlines()[-1].startswith("failed")
    small_disk("disk", "60m")
    recorded = project.run(sys.executable, "-c", ONCE).stdout.splitlines()[-1]
    assert recorded == "restored outputs of an earlier attempt were committed"
    assert project.counts() == {"unpack": 1}
    assert project.run(sys.executable, "-c", ONCE).stdout.splitlines()[-1].strip() == "unchanged"


def test_the_mlflow_store_is_full(
    tmp_path: Path, small_disk: Callable[[str, str], Path], api_url: str, server_root: Path, note: Note
) -> None:
    project = sweep_project.make(tmp_path / "project", api_url)
    disk = small_disk("project/tracking", "1200k")
    shutil.copytree(server_root / "tracking", disk, dirs_exist_ok=True)
    (disk / "store.json").unlink()
    size = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
    small_disk("project/tracking", f"{size // 1024 + 24}k")
    sweep = ("run", "--set", "runs.r1.margin=0.3,0.5", "--seeds", "0..9", "--jobs", "2")
    answer = project.facet(*sweep)
    assert "MLflow refused them" in answer.stdout + answer.stderr
    assert "| **r1 margin=0.5** | measured |" in answer.stdout
    small_disk("project/tracking", "60m")
    assert "nothing to do" in project.facet(*sweep).stdout
    assert len(sweep_project.records(project)) == 2 + 20 + 20 + 1
    note("Disk full in MLflow's store", "results are complete; the run prints that MLflow refused them; the next run records each once")


def test_a_remote_that_stops_answering_is_nothing_to_a_run_here(project: Dummy, note: Note) -> None:
    config = "[core]\n    remote = gone\n['remote \"gone\"']\n    url = ssh://192.0.2.1/nowhere\n"
    (project.path / ".dvc/config.local").write_text(config)
    project.write_params(project.params() | {"steps": 5})
    scene.assert_the_next_run_finishes(project)
    note("A DVC remote that stops answering", "a run on one machine does not use it (pools: docs/machines.md)")
