"""Several processes read and check a checkpoint together: one step, one folder, each file once."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch

from stages.runtime import artifacts
from stages.training.checkpoints import Checkpoints, Snapshot
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


def test_a_full_disk_of_one_process_stops_all_and_the_checkpoint_before_stays(project: Path):
    def both(ours: Processes) -> None:
        checkpoints = Checkpoints("key", processes=ours)

        def save(step: int) -> None:
            checkpoints.save(Snapshot(step, {"a": torch.zeros(4)}, {"weight": torch.full((3, 50_000), float(step))}, 3 * ours.rank, 6))

        save(1)
        if ours.rank == 1:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails, as one on a full disk does
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        reason = "rank-00001-of-00002.pt: .*File too large" if ours.rank == 1 else "another process failed"
        with pytest.raises(OSError, match=rf"cannot be written \({reason}\); the one after step 1 is in place"):
            save(2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ours.wait()
        assert [path.name for path in checkpoints.folder.iterdir()] == ["step-0000000001"]
        ours.wait()
        save(3)  # with room again
        last = checkpoints.last(range(3 * ours.rank, 3 * ours.rank + 3))
        assert last is not None
        assert (last.step, float(last.rows["weight"].mean())) == (3, 3.0)

    ranks.run(2, both)
