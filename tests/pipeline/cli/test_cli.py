from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.base import environment
from pipeline.cli import app
from pipeline.execution import history
from pipeline.execution.stage_result import StageResult
from tests.pipeline.dummy import Dummy
from tests.support import ROOT

COMMANDS = ("up", "worker", "down", "run", "status", "table", "track", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert f"Example: facet {command}" in answer.output


def test_help_lists_every_command_with_its_whole_sentence() -> None:
    answer = CliRunner().invoke(app, ["--help"])
    listed = [line.split() for line in answer.output.splitlines() if line.startswith("  ")]
    assert {words[0] for words in listed} >= set(COMMANDS)
    for command in COMMANDS:
        (line,) = (line for line in answer.output.splitlines() if line.strip().startswith(f"{command} "))
        assert line.endswith("."), line
        assert not line.endswith("..."), line


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pipeline.cli import app\n"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0\n"
        "print(*sorted({'dvc', 'mlflow', 'pandas', 'prefect', 'psutil', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == ""


def test_outside_a_project_the_error_is_one_sentence(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith(f"error: {tmp_path} is not in a facet project (no dvc.yaml and .dvc here or above)")
    assert answer.stderr.count("\n") == 1


def test_a_command_works_from_a_folder_below_the_root(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(runs=1)
    below = project.path / "graph/train_backbone"
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "status", "unpack"],
        cwd=below,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.startswith("unpack  stale")


def test_status_shows_done_stale_and_failed_stages_and_tables(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(runs=2)
    project.run("dvc", "repro", "-q", "--single-item", "resolve", "unpack")
    project.run("dvc", "repro", "-q", "--single-item", "graph/train_backbone/dvc.yaml:train_backbone@r0")
    failed = "graph/train_backbone/dvc.yaml:train_backbone@r1"
    history.add_attempt(project.path, StageResult("failed", "error: no memory (exited with 2)", address=failed))
    lines = project.facet("status").stdout.splitlines()
    shown = {line.split()[0]: line.split()[1:] for line in lines[:-1]}
    assert shown["unpack"] == ["done"]
    assert shown["train_backbone@r0"] == ["done"]
    assert " ".join(shown["train_backbone@r1"]) == "failed error: no memory (exited with 2)"
    assert " ".join(shown["evaluate_hq@r0"]) == "stale runs/r0/backbone.txt modified (and 1 more)"
    assert lines[-1] == "table heads: 3 done, 3 stale, 1 failed, of 7 stages"


def test_status_of_an_unknown_target_names_similar_ones(make_dummy: Callable[..., Dummy]) -> None:
    answer = make_dummy(runs=1).facet("status", "evaluate_lq", code=2)
    assert answer.stderr.startswith("error: no stage, table or run 'evaluate_lq': did you mean evaluate_hq")


@pytest.fixture
def in_project(make_dummy: Callable[..., Dummy], monkeypatch: pytest.MonkeyPatch) -> Dummy:
    """A project with a table, as the working directory."""
    project = make_dummy(runs=1)
    (project.path / "tables").mkdir()
    (project.path / "tables/heads.yaml").write_text("title: heads\n")
    monkeypatch.chdir(project.path)
    # commands put the environment of children into their own process
    for name, value in os.environ.items():
        monkeypatch.setenv(name, value)
    for name in environment.for_children({}):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return project


def test_a_table_is_printed_in_the_format_asked_for(in_project: Dummy) -> None:
    folder = in_project.path / "results/tables/heads/report"
    folder.mkdir(parents=True)
    (folder / "table.md").write_text("| a |\n")
    (folder / "table.csv").write_text("a,b\n")
    assert CliRunner().invoke(app, ["table", "heads"]).output == "| a |\n"
    assert CliRunner().invoke(app, ["table", "heads", "--format", "csv"]).output == "a,b\n"
    missing = CliRunner().invoke(app, ["table", "heads", "--format", "tex"])
    assert (missing.exit_code, missing.stderr) == (
        2,
        "error: table 'heads' is not written as tex, only as csv, md\n",
    )


def test_a_table_that_is_not_there_says_what_to_run(in_project: Dummy) -> None:
    answer = CliRunner().invoke(app, ["table", "heads"])
    assert (answer.exit_code, answer.stderr) == (
        2,
        "error: table 'heads' has not been made yet: run `facet run heads`\n",
    )
    assert CliRunner().invoke(app, ["table", "head"]).stderr == "error: no table 'head': there are heads\n"


def test_a_demo_outside_git_is_refused_before_anything_starts(in_project: Dummy) -> None:
    (in_project.path / ".git").rename(in_project.path / "not-git")
    answer = CliRunner().invoke(app, ["demo"])
    assert answer.exit_code == 2
    assert "is not a git checkout" in answer.stderr
    assert not (in_project.path / ".facet/services.json").exists()


def test_children_find_this_interpreter_although_nobody_activated_it() -> None:
    found = environment.for_children({"PATH": "/usr/bin"})
    here = str(Path(sys.executable).parent)
    assert found["PATH"] == f"{here}{os.pathsep}/usr/bin"
    assert environment.for_children(found)["PATH"] == found["PATH"]
    assert found["DO_NOT_TRACK"] == "1"


def test_state_that_was_cut_off_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    assert environment.read_json(tmp_path / "x.json") == {}
    environment.write_json(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = environment.free_port(port)
    assert other != port
    assert environment.free_port(other) == other


def test_a_reader_that_has_seen_enough_is_no_error(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(4)
    for command in ("facet status | head -1", "facet status | true"):
        answer = project.run("bash", "-c", f"set -o pipefail; {command}", code=None)
        assert answer.stderr == ""
        assert answer.returncode in (0, 141)
