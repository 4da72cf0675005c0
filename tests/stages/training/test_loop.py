"""The training loop: the same weights from the same seed, with any workers, killed or not."""

from __future__ import annotations

import json
import os
import random
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages.config.training import Config
from stages.runtime import devices, plugins, program
from stages.training import checkpoint_files, checkpoints, loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from tests.stages import ranks, small_training, training_data
from tests.stages.small_training import WAYS, config, same, train


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    devices.prepare(1)
    return small_training.prepare(tmp_path, monkeypatch, ["FACET_LOADER_WORKERS"])


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
    halted = loop.Training(config(), open_records("tiny"))
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


def test_every_draw_depends_on_the_step_alone_so_that_no_random_state_need_be_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    """Dropout is on; whatever else draws from the global generators between steps changes nothing."""
    wanted = train(config(epochs=2))
    disturbed = loop.Training(config(epochs=2), open_records("tiny"))
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
    halted = loop.Training(config(), open_records("tiny"))
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


def test_validation_remembers_the_best_epoch_and_changes_no_weight(project: Path):
    accuracies = iter([0.6, 0.8, 0.7])
    looked = loop.Training(
        config(validation={"every_epochs": 1}), open_records("tiny"), validate=lambda _: {"avg": next(accuracies)}
    )
    looked.run(Checkpoints("looked", kept=1), "train")
    assert [row["validation_avg"] for row in looked.history] == [0.6, 0.8, 0.7]
    assert (looked.best["epoch"], looked.best["validation_avg"]) == (2, 0.8)
    # the last one, and the best one though it is older than what is kept
    assert Checkpoints("looked").steps() == [8, 12]
    assert same(looked, train(config(), "unlooked"))


def test_validation_every_other_epoch_looks_after_the_last_too(project: Path):
    training = loop.Training(
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
    assert loop.Training(config(), records).order.size == 4


def test_images_of_another_size_are_refused_before_training(project: Path):
    training_data.write_manifest(project, "tiny", keys=[1], labels=[0], side=96)
    with pytest.raises(ValueError, match="not aligned to 112 x 112, the first is record 1 with 96 x 96"):
        open_records("tiny")


def test_a_data_set_that_was_not_unpacked_says_what_to_run(project: Path):
    with pytest.raises(FileNotFoundError, match="dvc repro unpack@other"):
        open_records("other")


KILLS = ("step", "first half of a file", "before the move", "while old ones are removed")


@pytest.mark.parametrize("way", ["sgd", "adamw"])
def test_killed_with_sigkill_at_any_step_and_in_any_moment_of_writing_it_ends_in_the_same_bits(
    way: str, project: Path, monkeypatch: pytest.MonkeyPatch
):
    """A dozen kills of one training, at drawn steps, with a checkpoint after every step; AdamW's has a cosine and an average."""
    monkeypatch.setenv("FACET_CHECKPOINT_SECONDS", "0")
    drawn, of = random.Random(3), config(**WAYS[way])
    wanted = train(of, "whole")
    died = 0
    for _ in range(12):
        kill = drawn.choice(KILLS), drawn.randrange(1, 4)
        died += ranks.exit_code(partial(train_until_killed, of, *kill)) == -signal.SIGKILL
    assert died >= 4  # the others came to the end
    survivor = train(of, "killed")
    assert same(wanted, survivor)
    assert survivor.history == wanted.history


def train_until_killed(of: Config, moment: str, steps: int) -> None:
    """Go on with the training "killed"; after ``steps`` more steps end this process at a moment of its own choosing."""
    training = loop.Training(of, open_records("tiny"))
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

    def half(tree: Any, path: Path, save: Any = checkpoint_files.save) -> None:
        save(tree, path)
        if dying == ["first half of a file"]:
            os.truncate(path, path.stat().st_size // 2)
            die()

    def sync(path: Path, sync: Any = checkpoint_files.sync) -> None:
        if dying == ["before the move"]:
            die()
        sync(path)

    def remove(path: Path, remove: Any = checkpoints.shutil.rmtree, **options: Any) -> None:
        if dying == ["while old ones are removed"] and path.is_dir():
            next(path.iterdir()).unlink()
            die()
        remove(path, **options)

    training.advance = step  # type: ignore[method-assign]
    checkpoint_files.save, checkpoint_files.sync = half, sync
    checkpoints.shutil = SimpleNamespace(rmtree=remove)  # type: ignore[assignment]
    training.run(Checkpoints("killed"), "train")
