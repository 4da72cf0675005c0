"""The training loop: the same weights from the same seed, with any workers, killed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import plugins, trainer
from stages.checkpoints import Checkpoints, key_of
from stages.samples import open_records
from stages.training import Config
from tests.stages import training_data

CPU = torch.device("cpu")
HEADS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333},
    "arcface": {"margin": 0.5},
    "cosface": {"margin": 0.35},
    "curricularface": {"margin": 0.5},
    "magface": {"min_norm": 1.0, "max_norm": 10.0, "norm_weight": 1.0},
    "mv_softmax": {"kind": "am", "margin": 0.35},
    "softmax": {},
}


def config(head: str = "adaface", **schedule: Any) -> Config:
    return Config.model_validate(
        {
            "dataset": "tiny",
            "backbone": {
                "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
                "stem_stride": 2, "feature_dim": 16, "dropout": 0.2,
            },
            "head": {"name": head, "scale": 16.0} | HEADS[head],
            "augmentation": {
                "crop_probability": 0.2, "low_res_probability": 0.2, "photometric_probability": 0.2
            },
            "schedule": {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "milestones": [2]} | schedule,
            "seed": 7,
        }
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    training_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.artifacts.STATE", tmp_path / ".facet")
    monkeypatch.delenv("FACET_LOADER_WORKERS", raising=False)
    return tmp_path


def train(of: Config, key: str = "key") -> trainer.Training:
    training = trainer.Training(of, open_records("tiny"), CPU)
    training.run(Checkpoints(key), "train")
    return training


def weights(training: trainer.Training) -> dict[str, torch.Tensor]:
    networks = training.networks
    return {**networks.backbone.state_dict(), **networks.head.state_dict(prefix="head.")}


def same(left: trainer.Training, right: trainer.Training) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("head", plugins.names("heads"))
def test_every_head_learns(head: str, project: Path):
    training = train(config(head, epochs=8))
    first, last = training.history[0], training.history[-1]
    assert last["loss"] < first["loss"]
    assert last["accuracy"] > 0.5  # four identities: chance is a quarter


@pytest.mark.parametrize("workers", ["1", "2"])
def test_loader_processes_change_no_bit_of_the_weights(
    workers: str, project: Path, monkeypatch: pytest.MonkeyPatch
):
    alone = train(config(epochs=2))
    monkeypatch.setenv("FACET_LOADER_WORKERS", workers)
    assert same(alone, train(config(epochs=2), "other"))


def test_another_seed_gives_other_weights(project: Path):
    of = config(epochs=1)
    assert not same(train(of), train(of.model_copy(update={"seed": 8}), "other"))


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
def test_a_training_stopped_at_any_step_ends_in_the_same_weights(
    stop: int, project: Path, monkeypatch: pytest.MonkeyPatch
):
    wanted = train(config())
    # a checkpoint after every step
    monkeypatch.setattr(trainer, "CHECKPOINT_S", -1.0)
    halted = trainer.Training(config(), open_records("tiny"), CPU)
    advance = halted.advance

    def until_stopped(*batch: torch.Tensor) -> Any:
        if halted.step == stop:
            raise KeyboardInterrupt
        return advance(*batch)

    monkeypatch.setattr(halted, "advance", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        halted.run(Checkpoints("resumed"), "train")
    resumed = train(config(), "resumed")
    assert same(wanted, resumed)
    assert resumed.history == wanted.history


def test_weight_decay_spares_batch_norms_alone(project: Path):
    training = trainer.Training(config(), open_records("tiny"), CPU)
    decayed, spared = training.optimiser.param_groups
    assert decayed["weight_decay"] == 5e-4
    assert spared["weight_decay"] == 0
    norms = [m for m in training.networks.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(spared["params"]) == 2 * len(norms)
    assert any(parameter is training.networks.head.weight for parameter in decayed["params"])
    num_trained = sum(p.requires_grad for p in training.networks.backbone.parameters()) + 1
    assert len(decayed["params"]) + len(spared["params"]) == num_trained


def test_a_loss_that_is_not_finite_stops_with_what_to_do(project: Path):
    with pytest.raises(ValueError, match=r"loss is .* at step .* lower schedule\.learning_rate"):
        train(config("cosface", learning_rate=1e30, epochs=30))


def test_what_is_measured_is_logged_while_it_runs(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_LOG_FILE", str(project / "log.jsonl"))
    training = train(config())
    points = [json.loads(line) for line in (project / "log.jsonl").read_text().splitlines()]
    assert points[-1]["step"] == training.num_steps
    assert {"loss", "accuracy", "target_cosine", "learning_rate", "norm_mean"} <= points[-1].keys()


def test_a_damaged_checkpoint_stops_the_training(project: Path):
    checkpoints = Checkpoints("key")
    checkpoints.path.parent.mkdir(parents=True)
    checkpoints.path.write_bytes(b"half")
    with pytest.raises(ValueError, match="delete it to start this training over"):
        train(config())


def test_a_checkpoint_belongs_to_one_configuration_and_one_set_of_records():
    assert key_of(train={"seed": 1}, records="a") == key_of(train={"seed": 1}, records="a")
    assert key_of(train={"seed": 1}, records="a") != key_of(train={"seed": 2}, records="a")
    assert key_of(train={"seed": 1}, records="a") != key_of(train={"seed": 1}, records="b")


def test_only_good_records_are_trained_on(project: Path):
    training_data.write_manifest(project, "tiny", keys=[1, 2, 9, 10], labels=[0, 0, 1, 1])
    records = open_records("tiny")
    assert records.key_N.tolist() == [1, 2, 9, 10]
    assert trainer.Training(config(), records, CPU).order.size == 4


def test_images_of_another_size_are_refused_before_training(project: Path):
    training_data.write_manifest(project, "tiny", keys=[1], labels=[0], side=96)
    with pytest.raises(ValueError, match="not aligned to 112 x 112, the first is record 1 with 96 x 96"):
        open_records("tiny")


def test_a_data_set_that_was_not_unpacked_says_what_to_run(project: Path):
    with pytest.raises(FileNotFoundError, match="dvc repro unpack@other"):
        open_records("other")
