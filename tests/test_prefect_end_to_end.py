"""The same graph through Prefect, with real servers: the same outputs as plain DVC, and one MLflow run per fingerprint."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def flowed(make_project: Callable[[], Project]) -> Iterator[Project]:
    """A project after `facet up` and `facet run --jobs 2`; its servers end with the test."""
    project = make_project()
    try:
        project.run("facet", "up")
        project.run("facet", "run", "--jobs", "2", timeout=600)
        yield project
    finally:
        project.run("facet", "down")


SPEED = ("images_per_s", "data_wait", "peak_memory_gib", "peak_device_memory_gib", "time", "steps_left")
"""What is measured of a training beside its results: no two runs have the same."""
TIMED = re.compile(r"results/\w+/train(\.json)?|results/tables/.*/rows/.*\.json")
"""Outputs that hold it: metrics and curve of a training, and rows."""


def outputs(root: Path) -> dict[str, Any]:
    """The hash of every output that DVC locked, or its content without speed; not the receipt, which names MLflow's runs."""
    return {
        out["path"]: timeless(root / out["path"]) if TIMED.fullmatch(out["path"]) else out["md5"]
        for lock in [root / "dvc.lock", *root.glob("graph/*/dvc.lock")]
        for entry in yaml.safe_load(lock.read_text())["stages"].values()
        for out in entry["outs"]
        if not out["path"].startswith("tracking/")
    }


def timeless(path: Path) -> Any:
    """What an output says but for times, speed and memory."""
    if path.is_dir():
        (curve,) = path.iterdir()
        return [without_speed(json.loads(line)) for line in curve.read_text().splitlines()]
    return without_speed(json.loads(path.read_text()))


def without_speed(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_speed(value) for key, value in tree.items() if key not in SPEED}
    return [without_speed(one) for one in tree] if isinstance(tree, list) else tree


def recorded(root: Path) -> list[dict[str, str]]:
    """The tags of every MLflow run."""
    with sqlite3.connect(f"file:{root / 'tracking/mlflow.db'}?mode=ro", uri=True) as store:
        rows = store.execute(
            "select t.run_uuid, t.key, t.value from tags t join runs r on r.run_uuid = t.run_uuid "
            "where r.lifecycle_stage = 'active'"
        ).fetchall()
    store.close()
    runs: dict[str, dict[str, str]] = {}
    for run, key, value in rows:
        runs.setdefault(run, {})[key] = value
    return list(runs.values())


def fingerprints(root: Path) -> Counter[tuple[str, str]]:
    return Counter((tags.get("facet.table", ""), tags["facet.fingerprint"]) for tags in recorded(root))


def test_prefect_and_plain_dvc_make_the_same_bytes(flowed: Project, reproduced: Project):
    assert outputs(flowed.path) == outputs(reproduced.path)
    assert "up to date" in flowed.run("dvc", "status")


def test_there_is_nothing_left_to_do(flowed: Project):
    assert "nothing to do" in flowed.run("facet", "run").lower()


def test_every_row_is_one_mlflow_run_however_it_came_about(flowed: Project, remargined: tuple[Project, str]):
    rows = [tags for tags in recorded(flowed.path) if "facet.row" in tags]
    assert sorted(tags["mlflow.runName"] for tags in rows) == ["AdaFace", "ArcFace", "CosFace"]
    before = fingerprints(flowed.path)
    assert set(before.values()) == {1}
    # another margin is another run; the old one stays, no longer current
    executed, _ = remargined
    assert set(fingerprints(executed.path).values()) == {1}, "run by DVC"
    share_cache(executed, flowed)
    flowed.edit("params.yaml", {"runs": {"cosface": {"head": {"margin": 0.2}}}})
    assert "Running stage 'graph/train" not in flowed.run("dvc", "repro"), "it was made before, as everywhere"
    changed = fingerprints(flowed.path)
    assert set(changed.values()) == {1}
    assert set(before) < set(changed)
    # back again: restored by DVC, run by Prefect, nothing recorded twice
    flowed.edit("params.yaml", {"runs": {"cosface": {"head": {"margin": 0.35}}}})
    flowed.run("facet", "run", "--jobs", "2")
    assert fingerprints(flowed.path) == changed
    current = [tags["mlflow.runName"] for tags in recorded(flowed.path)
               if "facet.row" in tags and tags["facet.current"] == "true"]
    assert sorted(current) == ["AdaFace", "ArcFace", "CosFace"]


def share_cache(giver: Project, taker: Project) -> None:
    """Put what one project's DVC cache has into another's, so that nothing is made twice.

    Of what both have made, the taker's stays alone: trainings differ in their speed, and DVC would restore either.
    """
    made = {path.name for path in (taker.path / ".dvc/cache/runs").glob("*/*")}

    def copy(source: str, target: str) -> None:
        # files of the cache are read-only
        if not Path(target).exists() and Path(target).parent.name not in made:
            shutil.copy2(source, target)

    shutil.copytree(giver.path / ".dvc/cache", taker.path / ".dvc/cache", copy_function=copy, dirs_exist_ok=True)


def test_the_table_command_prints_what_was_measured(flowed: Project):
    report = json.loads((flowed.path / "results/tables/heads/report/table.json").read_text())
    assert report["title"] in flowed.run("facet", "table", "heads")
    assert flowed.run("facet", "table", "heads", "--format", "csv").count("\n") > 3
