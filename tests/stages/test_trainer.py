"""The training loop: the same weights from the same seed, with any workers, killed or not."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages import checkpoints, devices, plugins, program, trainer
from stages.checkpoints import Checkpoints
from stages.samples import open_records
from stages.training import Config
from tests.stages import ranks, training_data

HEADS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333},
    "arcface": {"margin": 0.5},
    "cosface": {"margin": 0.35},
    "curricularface": {"margin": 0.5},
    "magface": {"min_norm": 1.0, "max_norm": 10.0, "norm_weight": 1.0},
    "mv_softmax": {"kind": "am", "margin": 0.35},
    "softmax": {},
}


def config(
    head: str = "adaface", compute: Any = None, validation: Any = None, dropout: float = 0.2, **schedule: Any
) -> Config:
    return Config.model_validate(
        {
            "compute": compute or {}, "validation": validation or {},
            "dataset": "tiny",
            "backbone": {
                "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
                "stem_stride": 2, "feature_dim": 16, "dropout": dropout,
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
    devices.prepare(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.artifacts.STATE", tmp_path / ".facet")
    monkeypatch.delenv("FACET_LOADER_WORKERS", raising=False)
    return tmp_path


def train(of: Config, key: str = "key") -> trainer.Training:
    training = trainer.Training(of, open_records("tiny"))
    training.run(Checkpoints(key), "train")
    return training


def weights(training: trainer.Training) -> dict[str, torch.Tensor]:
    networks = training.networks
    return {**networks.backbone.state_dict(), **networks.head.state_dict(prefix="head.")}


def parameters(training: trainer.Training) -> dict[str, torch.Tensor]:
    return dict(training.networks.modules().named_parameters())


def same(left: trainer.Training, right: trainer.Training) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("head", plugins.names("heads"))
def test_every_head_learns(head: str, project: Path):
    training = train(config(head, epochs=12))
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
    monkeypatch.setenv("FACET_CHECKPOINT_SECONDS", "0")
    halted = trainer.Training(config(), open_records("tiny"))
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
    training = trainer.Training(config(), open_records("tiny"))
    decayed, spared = training.stepper.optimiser.param_groups
    assert decayed["weight_decay"] == 5e-4
    assert spared["weight_decay"] == 0
    norms = [m for m in training.networks.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(spared["params"]) == 2 * len(norms)
    assert any(parameter is training.networks.head.weight for parameter in decayed["params"])
    num_trained = sum(p.requires_grad for p in training.networks.backbone.parameters()) + 1
    assert len(decayed["params"]) + len(spared["params"]) == num_trained


def test_every_draw_depends_on_the_step_alone_so_that_no_random_state_need_be_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    """Dropout is on; whatever else draws from the global generators between steps changes nothing."""
    wanted = train(config(epochs=2))
    disturbed = trainer.Training(config(epochs=2), open_records("tiny"))
    advance = disturbed.advance

    def after_others_drew(*batch: torch.Tensor) -> Any:
        torch.manual_seed(disturbed.step * 17)
        np.random.seed(disturbed.step)  # noqa: NPY002 - the very state that must not matter
        random.seed(disturbed.step)
        return advance(*batch)

    monkeypatch.setattr(disturbed, "advance", after_others_drew)
    disturbed.run(Checkpoints("disturbed"), "train")
    assert same(wanted, disturbed)


def test_sigterm_lets_the_step_end_writes_it_down_and_stops(project: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = train(config())
    halted = trainer.Training(config(), open_records("tiny"))
    advance = halted.advance

    def terminated(*batch: torch.Tensor) -> Any:
        if halted.step == 5:
            signal.raise_signal(signal.SIGTERM)
        return advance(*batch)

    monkeypatch.setattr(halted, "advance", terminated)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(program.Terminated):
        halted.run(Checkpoints("halted"), "train")
    assert signal.getsignal(signal.SIGTERM) is before
    assert Checkpoints("halted").steps() == [4, 6]  # the first epoch's, and the step that was under way
    assert same(wanted, train(config(), "halted"))


def test_chunks_change_no_gradient_but_for_what_batch_norms_see(project: Path, monkeypatch: pytest.MonkeyPatch):
    """Without batch norms' statistics in the way (evaluation mode), the step is that of the whole batch."""
    def gradients(chunks: int) -> dict[str, torch.Tensor]:
        compute = {"chunks": chunks}
        training = trainer.Training(config("adaface", compute=compute, dropout=0.0), open_records("tiny"))
        training.networks.backbone.eval()
        monkeypatch.setattr(training.stepper.backbone, "train", lambda: None)
        training.advance(*next(iter(training.batches())))
        return {name: p.grad for name, p in training.networks.modules().named_parameters() if p.grad is not None}

    whole, parts = gradients(1), gradients(4)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert (parts[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_chunks_take_each_image_into_the_running_statistics_once(project: Path):
    def norms(chunks: int) -> list[torch.nn.BatchNorm2d]:
        training = trainer.Training(config(compute={"chunks": chunks}), open_records("tiny"))
        training.advance(*next(iter(training.batches())))
        return [m for m in training.networks.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    for one, two in zip(norms(1), norms(2), strict=True):
        assert one.num_batches_tracked == 1
        assert two.num_batches_tracked == 2  # one for each part, and none when backward runs it again
        assert two.momentum == one.momentum
        # what the two halves of the batch make of the mean, one after the other, each with a weight of 0.1
        assert not torch.equal(one.running_mean, two.running_mean)


def test_bf16_learns_too_and_keeps_weights_and_heads_in_float32(project: Path):
    training = train(config("adaface", epochs=4, compute={"precision": "bf16"}))
    assert training.history[-1]["loss"] < training.history[0]["loss"]
    assert {p.dtype for p in training.networks.modules().parameters()} == {torch.float32}
    assert not same(training, train(config("adaface", epochs=4), "exact"))


def test_a_gradient_that_overflows_in_fp16_halves_the_scale_and_moves_no_weight(project: Path):
    training = trainer.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"))
    training.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batches = iter(training.batches())
    training.advance(*next(batches))
    scale, before = training.stepper.scaler.get_scale(), {k: v.clone() for k, v in parameters(training).items()}
    hook = next(training.networks.backbone.parameters()).register_hook(lambda grad: grad * float("inf"))
    training.advance(*next(batches))
    hook.remove()
    assert training.stepper.scaler.get_scale() == scale / 2
    assert all(torch.equal(value, before[name]) for name, value in parameters(training).items())
    training.advance(*next(batches))
    assert not all(torch.equal(value, before[name]) for name, value in parameters(training).items())


def test_the_loss_scale_is_kept_when_a_training_goes_on(project: Path):
    training = trainer.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"))
    training.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    training.advance(*next(iter(training.batches())))
    Checkpoints("scaled").save(training.snapshot())
    other = trainer.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"))
    other.resume(Checkpoints("scaled"), "train")
    assert other.stepper.scaler.get_scale() == training.stepper.scaler.get_scale() <= 512
    assert same(training, other)


def test_clipping_bounds_the_gradient_of_the_backbone_alone(project: Path):
    def gradients(**schedule: Any) -> tuple[float, float]:
        training = trainer.Training(config("cosface", **schedule), open_records("tiny"))
        training.advance(*next(iter(training.batches())))
        norms = [p.grad.norm() for p in training.networks.backbone.parameters() if p.grad is not None]
        assert training.networks.head.weight.grad is not None
        return float(torch.stack(norms).norm()), float(training.networks.head.weight.grad.norm())

    free, clipped = gradients(), gradients(clip_norm=0.01)
    assert free[0] > 0.01
    assert clipped == (pytest.approx(0.01, rel=1e-3), free[1])


def test_clipping_covers_a_quality_layer_which_is_part_of_the_published_backbone(project: Path):
    of = config("cosface", clip_norm=0.01).model_copy(update={"objective": {"name": "cr_fiqa"}})
    training = trainer.Training(of, open_records("tiny"))
    training.advance(*next(iter(training.batches())))
    layer = training.networks.objective.quality_layer()
    clipped = [*training.networks.backbone.parameters(), *layer.parameters()]
    norms = [p.grad.norm() for p in clipped if p.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(0.01, rel=1e-3)
    assert layer.weight.grad.norm() > 1e-4


@pytest.mark.parametrize(
    ("decayed", "spared"),
    [("all", 0), ("all_but_batch_norms", 1), ("all_but_batch_norms_and_biases", 2)],
)
def test_weight_decay_spares_what_it_is_told_to(decayed: str, spared: int, project: Path):
    training = trainer.Training(config(decayed=decayed), open_records("tiny"))
    names = {id(p): name for name, p in training.networks.modules().named_parameters()}
    free = {names[id(p)] for p in training.stepper.optimiser.param_groups[1]["params"]}
    assert bool(free) == (spared > 0)
    biases_elsewhere = {name for name in names.values() if name.endswith("output.3.bias")}
    assert (biases_elsewhere <= free) == (spared == 2 or not biases_elsewhere)


def test_validation_remembers_the_best_epoch_and_changes_no_weight(project: Path):
    accuracies = iter([0.6, 0.8, 0.7])
    looked = trainer.Training(
        config(validation={"every_epochs": 1}), open_records("tiny"), validate=lambda _: {"avg": next(accuracies)}
    )
    looked.run(Checkpoints("looked", kept=1), "train")
    assert [row["validation_avg"] for row in looked.history] == [0.6, 0.8, 0.7]
    assert (looked.best["epoch"], looked.best["validation_avg"]) == (2, 0.8)
    # the last one, and the best one though it is older than what is kept
    assert Checkpoints("looked").steps() == [8, 12]
    assert same(looked, train(config(), "unlooked"))


def test_validation_every_other_epoch_looks_after_the_last_too(project: Path):
    training = trainer.Training(
        config(epochs=3, validation={"every_epochs": 2}), open_records("tiny"), validate=lambda _: {"avg": 0.5}
    )
    training.run(Checkpoints("key"), "train")
    assert ["validation_avg" in row for row in training.history] == [False, True, True]


def test_a_loss_that_is_not_finite_stops_with_what_to_do(project: Path):
    with pytest.raises(ValueError, match=r"loss is .* at step .* lower schedule\.learning_rate"):
        train(config("cosface", learning_rate=1e30, epochs=30))


def test_what_is_measured_is_logged_while_it_runs(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_LOG_FILE", str(project / "log.jsonl"))
    training = train(config())
    points = [json.loads(line) for line in (project / "log.jsonl").read_text().splitlines()]
    assert points[-1]["step"] == training.num_steps
    assert {"loss", "accuracy", "target_cosine", "learning_rate", "norm_mean"} <= points[-1].keys()


def test_only_good_records_are_trained_on(project: Path):
    training_data.write_manifest(project, "tiny", keys=[1, 2, 9, 10], labels=[0, 0, 1, 1])
    records = open_records("tiny")
    assert records.key_N.tolist() == [1, 2, 9, 10]
    assert trainer.Training(config(), records).order.size == 4


def test_images_of_another_size_are_refused_before_training(project: Path):
    training_data.write_manifest(project, "tiny", keys=[1], labels=[0], side=96)
    with pytest.raises(ValueError, match="not aligned to 112 x 112, the first is record 1 with 96 x 96"):
        open_records("tiny")


def test_a_data_set_that_was_not_unpacked_says_what_to_run(project: Path):
    with pytest.raises(FileNotFoundError, match="dvc repro unpack@other"):
        open_records("other")


KILLS = ("step", "first half of a file", "before the move", "while old ones are removed")


def test_killed_with_sigkill_at_any_step_and_in_any_moment_of_writing_it_ends_in_the_same_bits(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    """A dozen kills of one training, at drawn steps, with a checkpoint after every step."""
    monkeypatch.setenv("FACET_CHECKPOINT_SECONDS", "0")
    drawn = random.Random(3)
    wanted = train(config(), "whole")
    died = 0
    for _ in range(12):
        kill = drawn.choice(KILLS), drawn.randrange(1, 4)
        status = os.waitpid(ranks.fork(lambda kill=kill: train_until_killed(*kill)), 0)[1]
        died += os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert died >= 4  # the others came to the end
    survivor = train(config(), "killed")
    assert same(wanted, survivor)
    assert survivor.history == wanted.history


def train_until_killed(moment: str, steps: int) -> None:
    """Go on with the training "killed"; after ``steps`` more steps end this process at a moment of its own choosing."""
    training = trainer.Training(config(), open_records("tiny"))
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    advance, count = training.advance, iter(range(1, 1000))
    dying = []

    def step(*batch: torch.Tensor) -> Any:
        if next(count) == steps:
            dying.append(moment)
        output = advance(*batch)
        if dying == ["step"]:
            die()
        return output

    def half(tree: Any, path: Path, save: Any = checkpoints._save) -> None:
        save(tree, path)
        if dying == ["first half of a file"]:
            os.truncate(path, path.stat().st_size // 2)
            die()

    def sync(path: Path, sync: Any = checkpoints._sync) -> None:
        if dying == ["before the move"]:
            die()
        sync(path)

    def remove(path: Path, remove: Any = checkpoints.shutil.rmtree, **options: Any) -> None:
        if dying == ["while old ones are removed"] and path.is_dir():
            next(path.iterdir()).unlink()
            die()
        remove(path, **options)

    training.advance = step  # type: ignore[method-assign]
    checkpoints._save, checkpoints._sync = half, sync
    checkpoints.shutil = SimpleNamespace(rmtree=remove)  # type: ignore[assignment]
    training.run(Checkpoints("killed"), "train")
