"""Stages that hang, and several who work on one project at once."""

from __future__ import annotations

import pytest

from tests.faults import scene
from tests.faults.scene import Note
from tests.pipeline.dummy import Dummy

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_a_stage_hangs(project: Dummy, api_url: str, note: Note) -> None:
    project.write_params(project.params() | {"hangs": ["r1"], "steps": 20})
    answer = project.facet("run", "--jobs", "2", "--no-track", "--timeout", "0.05")
    assert "hung: no output and no measurement for 0.05 minutes: trying again, 1 of 2" in answer.stdout + answer.stderr
    scene.assert_no_orphan(project)
    begun = [entry["what"] for entry in scene.all_entries(project) if entry["stage"] == "train_backbone@r1"]
    assert begun == ["start", "from 0", "stopped", "start", "from 6", "end"]
    scene.assert_the_next_run_finishes(project, least=6)
    note("A stage hangs", "after `--timeout` minutes without output or measurement it gets SIGTERM and is tried again, from its checkpoint; Completed")


def test_two_runs_at_once(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    project.facet("run", "--jobs", "2", "--no-track")
    assert found.run.wait(timeout=60) == 0, project.output()
    assert set(project.counts().values()) == {1}
    scene.assert_no_orphan(project)
    scene.assert_the_next_run_finishes(project)
    note("Two `facet run` at once", "each waits for the other's stages; every stage runs once; both Completed")


def test_dvc_beside_a_run(project: Dummy, api_url: str, note: Note) -> None:
    found = scene.begin(project, api_url)
    other = project.run("dvc", "repro", code=None)
    assert found.run.wait(timeout=60) == 0, project.output()
    assert set(project.counts().values()) == {1}
    scene.assert_no_orphan(project)
    scene.assert_the_next_run_finishes(project)
    said = "waits, or refuses at once with `busy`" if other.returncode else "waits"
    note("`dvc repro` beside `facet run`", f"DVC {said}; every stage runs once; the run is Completed")


def test_a_run_beside_dvc(project: Dummy, api_url: str, note: Note) -> None:
    other = project.start_program("dvc", "repro")
    project.wait_for("train_backbone@r0")
    project.facet("run", "--jobs", "2", "--no-track")
    code = other.wait(timeout=60)
    counts = project.counts("end")
    assert {name: count for name, count in counts.items() if count > 1} == {}
    scene.assert_no_orphan(project)
    scene.assert_the_next_run_finishes(project)
    end = "refuses a stage that the run is working on (`busy`)" if code else "goes on to its end"
    note("`facet run` beside `dvc repro`", f"the run waits for DVC's stage and runs the rest; DVC {end}; every stage runs once")
