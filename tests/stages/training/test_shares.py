"""A merged data set whose sources have fixed shares of every batch."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from stages import unpack
from stages.config.training import Config
from stages.datasets import insightface_rec
from stages.runtime import artifacts, devices, merged, pin, program
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from tests.stages import small_sets, small_training
from tests.stages.small_training import config, same


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set `both` of `web`, 12 images, and `crowd`, 4 images, and the small one `tiny`."""
    devices.prepare(1)
    (tmp_path / "work").mkdir()
    small_training.prepare(tmp_path / "work", monkeypatch, ["FACET_LOADER_WORKERS"])
    for name, people in (("web", range(3)), ("crowd", range(3, 4))):
        images = [(small_sets.encoded(who, seed), who - people.start) for who in people for seed in range(4)]
        insightface_rec.write(tmp_path / name, images, len(people))
    tree = {"datasets": {**{name: {"root": str(tmp_path / name)} for name in ("web", "crowd")}, "both": {"sources": ["web", "crowd"]}}}
    pin.pin_all(tree)
    both = merged.described(tree)["both"]
    place = {"root": str(both.root), "sources": {name: str(root) for name, root in both.sources.items()}}
    artifacts.write_yaml(Path("resolved/datasets/both.yaml"), {"unpack": {}, **place})
    unpack.main(unpack.parser().parse_args(["both"]))
    return tmp_path


def of(shares: dict[str, float] | None, dataset: str = "both") -> Config:
    tree = config(epochs=3).model_dump(mode="json")
    return Config.model_validate({**tree, "dataset": dataset, "shares": shares})


HALVES = {"web": 0.5, "crowd": 0.5}


def test_every_batch_has_the_shares_and_an_epoch_as_many_steps_as_without(work: Path):
    training = loop.Training(of(HALVES), open_records("both"))
    labels = [label_B.tolist() for _, label_B in training.batches()]
    assert len(labels) == training.num_steps == 6
    assert all(sum(label == 3 for label in batch) == 4 for batch in labels)
    plain = [label_B.tolist() for _, label_B in loop.Training(of(None), open_records("both")).batches()]
    assert np.mean([batch.count(3) for batch in plain]) == 2
    training.run(Checkpoints("shares"), "train")
    assert (training.step, len(training.history)) == (6, 3)


def test_a_stopped_training_goes_on_with_the_batches_that_it_would_have_had(work: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = loop.Training(of(HALVES), open_records("both"))
    wanted.run(Checkpoints("whole"), "train")
    halted = loop.Training(of(HALVES), open_records("both"))
    advance = halted.advance

    def terminated(*batch: Tensor) -> Any:
        if halted.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return advance(*batch)

    monkeypatch.setattr(halted, "advance", terminated)
    with pytest.raises(program.Terminated):
        halted.run(Checkpoints("halted"), "train")
    resumed = loop.Training(of(HALVES), open_records("both"))
    resumed.run(Checkpoints("halted"), "train")
    assert same(wanted, resumed)
    assert resumed.history == wanted.history


def test_shares_are_of_the_sources_of_a_merged_set_and_no_parameter_of_others(work: Path):
    assert "shares" not in config().model_dump(mode="json")
    with pytest.raises(ValueError, match=r"shares: wanted one for each source of both \(web, crowd\), got web"):
        loop.Training(of({"web": 1}), open_records("both"))
    with pytest.raises(ValueError, match=r"shares: wanted one for each source of tiny \(none, it is a single one\), got web"):
        loop.Training(of({"web": 1}, "tiny"), open_records("tiny"))
    with pytest.raises(ValueError, match="greater than 0"):
        of({"web": 0, "crowd": 1})
