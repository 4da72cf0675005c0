"""A side workspace that another process works in: the same work joins it, other work is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml

from pipeline.base import workspace
from pipeline.base.workspace import Workspace
from pipeline.cli import sweep
from pipeline.execution.fork_server import Forker
from pipeline.workspaces import ablations, snapshot, sweeps
from pipeline.workspaces.ablations import Ablations
from pipeline.workspaces.snapshot import OtherWorkError
from pipeline.workspaces.sweeps import Sweep
from tests.pipeline import sweep_project
from tests.pipeline.dummy import Dummy
from tests.pipeline.workspaces import test_ablations

# if nothing is refused, no server is started either
NOWHERE = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}


@pytest.fixture
def project(tmp_path: Path) -> Dummy:
    project = sweep_project.make(tmp_path / "project")
    trees = {
        "ablations/runs.yaml": test_ablations.RUNS, "ablations/demo.yaml": test_ablations.DEMO,
        "tables/heads.yaml": test_ablations.HEADS, "tables/alone.yaml": test_ablations.ALONE,
    }  # fmt: skip
    test_ablations.write(project.path, trees)
    return project


def opened(project: Dummy, asked: Ablations) -> AbstractContextManager[tuple[Workspace, bool]]:
    return ablations.opened(project.path, asked, ablations.params(project.path, asked))


@pytest.mark.parametrize(
    ("command", "asked", "differs"),
    [
        (("alone",), "1 training run of alone", "rows, runs, tables"),
        (("heads", "--seeds", "0,1"), "4 training runs of heads", "rows, runs"),
    ],
)
def test_other_tables_than_those_that_run_are_refused(
    project: Dummy, command: tuple[str, ...], asked: str, differs: str
) -> None:
    with opened(project, Ablations("demo", {"heads": (0,)})) as (where, fresh):
        assert fresh
        folder = where.folder
        before = (folder / "params.yaml").read_text()
        answer = project.facet("ablations", *command, "--no-track", code=1, **NOWHERE)
        assert (folder / "params.yaml").read_text() == before
    assert answer.stderr == (
        f"error: another process is running 2 training runs of heads in {folder}, but this command requests {asked}"
        f" (difference: {differs}): wait until it ends, or repeat the command that started it\n"
    )
    assert "table " not in answer.stdout


def test_the_same_tables_again_work_with_what_is_there(project: Dummy) -> None:
    asked = Ablations("demo", {"heads": (0, 1)})
    with opened(project, asked) as (where, fresh):
        assert fresh
        with opened(project, asked) as again:
            assert again == (where, False)
    with opened(project, Ablations("demo", {"alone": (0,)})) as (_, fresh):
        assert fresh, "nobody works there any more"


def test_a_sweep_of_runs_that_were_edited_since_it_began_is_refused(project: Dummy) -> None:
    command = ("run", "r1", "--seeds", "0..1", "--no-track")

    def understood() -> Sweep:
        return sweep.understand(project.path, ["r1"], sweep.Asked([], "0..1", None, None))

    asked = understood()
    with sweeps.opened(project.path, asked) as (where, _):
        with sweeps.opened(project.path, asked) as again:
            assert again == (where, False)
        project.edit("r1", margin=0.9)
        answer = project.facet(*command, code=1, **NOWHERE)
        assert re.fullmatch(
            r"error: another process is running 2 training runs of (r1_\w+) in .*/sweeps/\1, but this command requests 2 training runs"
            r" of \1 \(difference: runs\): wait until it ends, .*\n",
            answer.stderr,
        )
        with pytest.raises(OtherWorkError), sweeps.opened(project.path, understood()):
            pass
    assert yaml.safe_load((where.folder / "params.yaml").read_text())["runs"]["r1"]["margin"] == 0.1


def test_code_that_is_copied_no_more_leaves_no_folder_for_python_to_find(project: Dummy) -> None:
    """An earlier version copied `pipeline/`, whose bytecode git does not list."""
    (project.path / "kept").mkdir()
    (project.path / "old/below").mkdir(parents=True)
    for name in ("old/module.py", "old/below/module.py", "kept/module.py", "kept/mine.py"):
        (project.path / name).write_text("")
    asked = Ablations("demo", {"heads": ()})
    with opened(project, asked) as (where, _):
        for folder in ("old", "old/below", "kept"):
            (where.folder / folder / "__pycache__").mkdir()
        (where.folder / "kept/result.txt").write_text("of a person")
    shutil.rmtree(project.path / "old")
    shutil.rmtree(project.path / "kept")
    with opened(project, asked):
        assert not (where.folder / "old").exists()
        assert sorted(path.name for path in (where.folder / "kept").iterdir()) == ["__pycache__", "result.txt"]


def test_tables_in_a_pool_are_refused_before_anything_is_made(project: Dummy) -> None:
    answer = project.facet("ablations", "heads", "--pool", "gpus", code=2, **NOWHERE)
    assert answer.stderr.startswith("error: the papers' tables run on this machine only: ")
    assert not (project.path / ".facet/ablations").exists()


def test_a_workspace_that_a_flow_run_of_prefects_own_works_in_is_kept_as_it_is(project: Dummy) -> None:
    asked = Ablations("demo", {"heads": ()})
    with pytest.raises(LookupError, match="no workspace ablations/demo: there are none"), kept(project):
        pass
    with opened(project, asked):
        pass
    with kept(project), opened(project, asked) as (_, fresh):
        assert not fresh
    with opened(project, asked) as (_, fresh):
        assert fresh


def kept(project: Dummy) -> AbstractContextManager[None]:
    return snapshot.kept(workspace.parse(project.path, "ablations/demo"))


def test_each_run_and_each_table_of_a_workspace_has_a_graph_file_of_its_own(project: Dummy) -> None:
    def files(folder: Path) -> set[str]:
        return {path.parent.name for path in (folder / "graph").glob("*/dvc.yaml")}

    with opened(project, Ablations("demo", {"heads": (0, 1)})) as (where, _):
        arc, ada = "run-arc_r50_ms1mv2", "run-ada_r50_ms1mv2"
        assert files(where.folder) == {arc, f"{arc}_s1", ada, f"{ada}_s1", "table-heads"}
        tree = yaml.safe_load((where.folder / f"graph/{arc}/dvc.yaml").read_text())
        assert set(tree["stages"]) == {"train_backbone", "evaluate_hq"}
        with Forker(where.folder) as forker:
            graph = forker.start("read_graph", {}).wait()
        assert {stage.name for stage in graph.stages.values() if stage.kind == "train_backbone"} == {
            f"train_backbone@{run}{end}" for run in ("arc_r50_ms1mv2", "ada_r50_ms1mv2") for end in ("", "_s1")
        }
        # what is not wanted now is no stage any more, and what DVC locked of it is there when it is wanted again
        (where.folder / f"graph/{arc}_s1/dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with opened(project, Ablations("demo", {"heads": ()})):
        assert files(where.folder) == {arc, ada, "table-heads"}
        assert (where.folder / f"graph/{arc}_s1/dvc.lock").is_file()


def test_a_graph_file_that_reads_more_than_the_run_is_copied_as_it_is(project: Dummy) -> None:
    path = project.path / "graph/evaluate_hq/dvc.yaml"
    text = path.read_text().replace("work.py evaluate_hq", "work.py evaluate_hq_${data}")
    path.write_text(text)
    with opened(project, Ablations("demo", {"heads": ()})) as (where, _):
        assert (where.folder / "graph/evaluate_hq/dvc.yaml").read_text() == text
        tree = yaml.safe_load((where.folder / "graph/run-arc_r50_ms1mv2/dvc.yaml").read_text())
        assert set(tree["stages"]) == {"train_backbone"}


def test_a_workspace_of_an_earlier_version_has_each_stage_once(project: Dummy) -> None:
    asked = Ablations("demo", {"heads": ()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "_repeated", lambda root: {})
        with opened(project, asked) as (where, _):
            lock = where.folder / "graph/train_backbone/dvc.lock"
            lock.write_text("schema: '2.0'\nstages: {}\n")
    with opened(project, asked):
        assert not lock.parent.exists()


def test_a_workspace_has_no_pipeline_of_its_own(project: Dummy) -> None:
    (project.path / "pipeline").mkdir()
    (project.path / "pipeline/__init__.py").write_text("")
    with opened(project, Ablations("demo", {"heads": ()})) as (where, _):
        assert not (where.folder / "pipeline").exists()


def test_a_file_whose_name_is_not_utf_8_is_copied_like_any_other(tmp_path: Path) -> None:
    root, name = tmp_path / "root", os.fsdecode(b"gr\xfc\xdfe.py")
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / name).write_text("x = 1\n")
    assert snapshot._copy(root, tmp_path / "copy", ()) == [name]
    assert (tmp_path / "copy" / name).read_text() == "x = 1\n"
