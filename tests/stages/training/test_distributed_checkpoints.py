"""Several processes read and check a checkpoint together: one step, one folder, each file once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.runtime import artifacts
from stages.training.checkpoints import Checkpoints
from stages.training.distributed import Processes
from tests.stages import ranks, small_training
from tests.stages.small_training import config, train


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_training.prepare(tmp_path, monkeypatch, small_training.PROCESS_VARIABLES)


def test_processes_resume_from_one_checkpoint_though_one_of_them_cannot_read_the_last(project: Path):
    def both(ours: Processes) -> None:
        train(config(epochs=2), "key", ours)
        read, span = torch.load, range(2 * ours.rank, 2 * ours.rank + 2)
        if ours.rank == 1:
            torch.load = lambda path, **of: 1 / 0 if "step-0000000008" in str(path) else read(path, **of)
        snapshot = Checkpoints("key", processes=ours).last(span)
        assert snapshot is not None
        assert snapshot.step == 4
        torch.load = read
        if ours.rank == 1:  # a machine that shares no folder with the others
            artifacts.STATE = project / "elsewhere"
        with pytest.raises(ValueError, match="the processes see different checkpoints under"):
            Checkpoints("key", processes=ours).last(span)

    ranks.run(2, both)


def test_each_process_checks_its_share_of_a_checkpoints_files(project: Path, monkeypatch: pytest.MonkeyPatch):
    ranks.run(2, lambda ours: train(config(epochs=1), "key", ours))
    checked: list[str] = []
    sha256 = artifacts.sha256
    monkeypatch.setattr(artifacts, "sha256", lambda path: (checked.append(path.name), sha256(path))[1])
    for rank in range(2):
        Checkpoints("key", processes=Processes(rank, 2)).read(4, share=True)
    assert sorted(checked) == ["rank-00000-of-00002.pt", "rank-00001-of-00002.pt", "state.pt"]
    checked.clear()
    Checkpoints("key", processes=Processes(1, 2)).read(4)
    assert len(checked) == 3
