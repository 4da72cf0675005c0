"""The workspace that each release left is read by today's code, and nothing of it is made again."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.base import environment
from pipeline.execution import graph, history
from pipeline.tracking import recorded_ids
from stages.training.checkpoints import Checkpoints
from tests.releases.make_release import STORE
from tests.support import ROOT

ARCHIVES = sorted(Path(__file__).parent.glob("*.tar.gz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(request.param) as tar:
        # Debian 12's Python 3.11.2 has no filters, 3.12 warns of none
        tar.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", Path(".facet"))
    return Path()


def test_this_version_has_left_one() -> None:
    version = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version = "))
    assert Path(__file__).with_name(f"{version.split(chr(34))[1]}.tar.gz") in ARCHIVES, "run python -m tests.releases.make_release"


def test_all_its_stages_are_up_to_date(root: Path) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    found = graph.read(root.absolute())
    locks = [root / "dvc.lock", *root.glob("graph/*/dvc.lock")]
    ran = {name for path in locks for name in yaml.safe_load(path.read_text())["stages"]}
    assert {stage.name for stage in found.stages.values()} == ran
    assert len(ran) > 5
    assert found.stale() == {}


def test_its_journals_and_records_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(history.durations(root).values()) == [2.5, 3.5]
    last = history.last_run(root)
    assert last is not None
    assert (last.name, last.state) == ("calm-otter", "Completed")
    assert [one.state for one in history.unsettled(root)] == ["Cancelled"]
    assert environment.read_json(root / ".facet/workspace.json")["identity"] == "0a1b2c3d"
    # IDs count only beside the database that they are of
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    (root / "tracking/mlflow.db").touch()
    (run,) = recorded_ids.read(root).runs["table/heads"].values()
    assert (run.stage, run.commit) == ("row@heads-r0", "c0ffee")


def test_its_checkpoint_is_read(root: Path) -> None:
    last = Checkpoints("key").last()
    assert last is not None
    assert (last.step, last.shared["loss"], last.own["queue"].tolist()) == (3, 0.3, [3.0])
    assert torch.equal(last.rows["weight"], torch.arange(6.0).view(3, 2))
