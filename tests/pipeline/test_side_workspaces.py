"""A side workspace that another process works in: the same work joins it, other work is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline import ablation_workspace, cli_sweep, sweep_workspace
from pipeline.ablation_workspace import Ablations
from pipeline.side_workspace import OtherWorkError
from tests.pipeline import test_ablations, test_sweep
from tests.pipeline.dummy import Dummy

# if nothing is refused, no server is started either
NOWHERE = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}


@pytest.fixture
def project(tmp_path: Path) -> Dummy:
    project = test_sweep.make(tmp_path / "project")
    trees = {
        "ablations/runs.yaml": test_ablations.RUNS, "ablations/demo.yaml": test_ablations.DEMO,
        "tables/heads.yaml": test_ablations.HEADS, "tables/alone.yaml": test_ablations.ALONE,
    }  # fmt: skip
    test_ablations.write(project.path, trees)
    return project


@pytest.mark.parametrize(
    ("command", "asked", "differs"),
    [
        (("alone",), "1 trainings of alone", "rows, runs, tables"),
        (("heads", "--seeds", "0,1"), "4 trainings of heads", "rows, runs"),
    ],
)
def test_other_tables_than_those_that_run_are_refused(
    project: Dummy, command: tuple[str, ...], asked: str, differs: str
) -> None:
    with ablation_workspace.opened(project.path, Ablations("demo", {"heads": (0,)})) as (workspace, fresh):
        assert fresh
        before = (workspace / "params.yaml").read_text()
        answer = project.facet("ablations", *command, "--no-track", code=1, **NOWHERE)
        assert (workspace / "params.yaml").read_text() == before
    assert answer.stderr == (
        f"error: another process works in {workspace} on 2 trainings of heads, and this command asks for {asked}"
        f" (other: {differs}): wait until that ends, or give the command that it began with\n"
    )
    assert "table " not in answer.stdout


def test_the_same_tables_again_work_with_what_is_there(project: Dummy) -> None:
    asked = Ablations("demo", {"heads": (0, 1)})
    with ablation_workspace.opened(project.path, asked) as (workspace, fresh):
        assert fresh
        with ablation_workspace.opened(project.path, asked) as again:
            assert again == (workspace, False)
    with ablation_workspace.opened(project.path, Ablations("demo", {"alone": (0,)})) as (_, fresh):
        assert fresh, "nobody works there any more"


def test_a_sweep_of_runs_that_were_edited_since_it_began_is_refused(project: Dummy) -> None:
    command = ("run", "r1", "--seeds", "0..1", "--no-track")
    asked = cli_sweep.understand(project.path, ["r1"], cli_sweep.Asked([], "0..1", None, None))
    with sweep_workspace.opened(project.path, asked) as (workspace, _):
        with sweep_workspace.opened(project.path, asked) as again:
            assert again == (workspace, False)
        project.edit("r1", margin=0.9)
        answer = project.facet(*command, code=1, **NOWHERE)
        assert re.fullmatch(
            r"error: another process works in .*/sweeps/r1-\w+ on 2 trainings, and this command asks for 2 trainings"
            r" \(other: runs\): wait until that ends, .*\n",
            answer.stderr,
        )
        with pytest.raises(OtherWorkError), sweep_workspace.opened(project.path, asked):
            pass
    assert yaml.safe_load((workspace / "params.yaml").read_text())["runs"]["r1_seed_0"]["margin"] == 0.1
