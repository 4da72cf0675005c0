"""Several processes train what one would have trained; their checkpoints are anyone's to go on from."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stages import train_backbone
from stages.config.training import Config
from stages.core.losses.head import HeadOutput
from stages.core.losses.objective import Objective
from stages.core.losses.sampler import Order
from stages.core.networks.batch_norm import sync_over_processes
from stages.runtime import artifacts, plugins, program
from stages.training import checkpoint_files, loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from stages.training.step import Stepper
from tests.stages import ranks, small_training
from tests.stages.small_training import config, distance, last

SHARED = {"sync_batch_norm": True, "precision": "fp64"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_training.prepare(tmp_path, monkeypatch, small_training.PROCESS_VARIABLES)


def train(of: Config, key: str, ours: Processes | None = None, until: int | None = None) -> None:
    """Train to the end, or to a step; leave a checkpoint under ``key``."""
    training = loop.Training(of, open_records("tiny"), ours)
    saved = Checkpoints(key, processes=ours)
    if until is None:
        training.run(saved, key)
        return
    for batch in training.batches():
        training.advance(*batch)
        if training.step == until:
            saved.save(training.snapshot())
            return


@pytest.mark.slow
def test_two_processes_end_in_the_weights_of_one_with_every_head(project: Path):
    """In float64: each step of so small a net and batch makes a difference in the last bit some ten times as large."""
    heads = plugins.names("heads")
    configs = {head: config(head, compute=SHARED, dropout=0.0, epochs=1) for head in heads}

    def both(ours: Processes) -> None:
        for head in heads:
            train(configs[head], f"two-{head}", ours)

    ranks.run(2, both)
    for head in heads:
        train(configs[head], f"one-{head}")
        one, two = last(f"one-{head}"), last(f"two-{head}")
        assert distance(two, one) < 1e-9, head
        for mine, theirs in zip(two.shared["history"], one.shared["history"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9), head


def test_in_float32_two_processes_are_as_near_to_the_truth_as_one(project: Path):
    configs = {name: config(compute=SHARED | {"precision": name}, dropout=0.0, epochs=1) for name in ("fp32", "fp64")}
    ranks.run(2, lambda ours: train(configs["fp32"], "two", ours, until=1))
    for name, of in configs.items():
        train(of, name, until=1)
    truth = last("fp64").shared["sums"]["total_3"][0]
    errors = [abs(float(last(key).shared["sums"]["total_3"][0] - truth)) for key in ("two", "fp32")]
    assert errors[0] <= 2 * errors[1] + 1e-6 * float(truth)


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_is_gone_on_from_by_one_by_three_and_by_four(project: Path):
    of = config("adaface", compute=SHARED, dropout=0.0, epochs=3, batch_size=12)
    train(of, "whole")

    def start(ours: Processes) -> None:
        for key in ("by-1", "by-3", "by-4"):
            train(of, key, ours, until=3)

    ranks.run(2, start)
    assert sorted(path.name for path in Checkpoints("by-1").path(3).iterdir()) == [
        "checkpoint.json", "rank-00000-of-00002.pt", "rank-00001-of-00002.pt", "state.pt",
    ]  # fmt: skip
    train(of, "by-1")
    for count in (3, 4):
        ranks.run(count, lambda ours, count=count: train(of, f"by-{count}", ours))
    for key in ("by-1", "by-3", "by-4"):
        assert Checkpoints(key).steps()[-1] == 6
        assert distance(last(key), last("whole")) < 1e-9, key


@pytest.mark.slow
def test_two_processes_write_one_model_with_all_classes(project: Path):
    of = config(compute=SHARED, dropout=0.0, epochs=1)
    ranks.run(2, lambda ours: train_backbone.train("two", of, ours))
    train_backbone.train("one", of, Processes())
    one, two = (torch.load(f"runs/{run}/backbone/weights.pt", weights_only=True) for run in ("one", "two"))
    for part in ("head", "backbone"):
        torch.testing.assert_close(dict(two[part]), dict(one[part]), rtol=1e-6, atol=1e-9)
    assert not list((project / ".facet").rglob("*.pt"))
    metrics = [artifacts.read_json(Path(f"results/{run}/train.json")) for run in ("one", "two")]
    for tree in metrics:
        for name in ("weights_sha256", "images_per_s", "data_wait", "peak_memory_gib"):
            del tree[name]
        assert tree.pop("peak_device_memory_gib") is None
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-9)


def test_an_overflow_in_the_classes_of_one_process_skips_the_step_in_all(project: Path):
    def both(ours: Processes) -> None:
        training = loop.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"), ours)
        training.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        before = {name: p.detach().clone() for name, p in training.networks.modules().named_parameters()}
        if ours.rank == 1:
            training.networks.head.weight.register_hook(lambda grad: grad * float("inf"))
        batches = iter(training.batches())
        training.advance(*next(batches))
        assert training.stepper.scaler.get_scale() == 128
        assert all(torch.equal(p, before[name]) for name, p in training.networks.modules().named_parameters())

    ranks.run(2, both)


@pytest.mark.parametrize("count", [1, 2])
def test_partial_fc_moves_sampled_centres_only_and_resumes_to_the_same_bits(count: int, project: Path):
    of = config("cosface", epochs=2).model_copy(update={"class_sample_rate": 0.5})

    def work(ours: Processes) -> None:
        training = loop.Training(of, open_records("tiny"), ours)
        before = training.networks.head.weight.detach().clone()
        label_B = torch.zeros(training.order.local_size, dtype=torch.int64)
        training.advance(next(iter(training.batches()))[0], label_B)
        moved = (training.networks.head.weight != before).any(dim=1)
        mine = len(training.stepper.span)
        assert moved.sum() == mine // 2  # of 4 classes half, the batch's own among them
        assert bool(moved[0]) or ours.rank == 1
        train(of, f"whole-{count}", ours)
        train(of, f"cut-{count}", ours, until=3)
        train(of, f"cut-{count}", ours)

    ranks.run(count, work)
    assert distance(last(f"whole-{count}"), last(f"cut-{count}")) == 0


class TwoViews(Objective):
    """Runs the backbone twice a step, with a parameter, which all share, and a queue, which each has its own of."""

    views = ("training", "clean")

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(feature_dim, 1)
        self.register_buffer("queue", torch.zeros(2))

    def forward(
        self, backbone: Any, head: Any, views: Sequence[torch.Tensor], label_B: torch.Tensor, epoch: float
    ) -> HeadOutput:
        features = [backbone(view) for view in views]
        output: HeadOutput = head(features[0], label_B)
        self.queue.copy_(features[1].detach().norm(dim=1)[:2])
        return replace(output, loss=output.loss + self.weigh(features[1]).square().mean())


def train_two_views(of: Config, key: str, ours: Processes | None = None) -> None:
    plugin = SimpleNamespace(
        Config=plugins.load("objectives", "classification").Config,
        build=lambda of, feature_dim, num_classes: TwoViews(feature_dim),
    )
    load = plugins.load
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(plugins, "load", lambda kind, name: plugin if kind == "objectives" else load(kind, name))
        train(of, key, ours)


def test_two_views_and_an_objective_with_parameters_are_shared_too(project: Path):
    of = config("cosface", compute=SHARED, dropout=0.0, epochs=1)
    ranks.run(2, lambda ours: train_two_views(of, "two", ours))
    train_two_views(of, "one")
    one, two = last("one"), last("two")
    assert torch.linalg.vector_norm(one.own["weigh.weight"] - two.own["weigh.weight"]) < 1e-9
    assert distance(two, one) < 1e-9
    # the queue of the second process holds the second half of the batch: kept for it, when it goes on
    parts = [torch.load(Checkpoints("two").path(4) / f"rank-0000{rank}-of-00002.pt") for rank in range(2)]
    assert not torch.equal(parts[0]["own"]["queue"], parts[1]["own"]["queue"])


def test_processes_that_stop_on_sigterm_stop_at_one_step_and_go_on_as_if_they_had_not(project: Path):
    of = config("cosface", compute=SHARED, epochs=3)

    def stopped(ours: Processes) -> None:
        training = loop.Training(of, open_records("tiny"), ours)
        advance = training.advance

        def terminated(*batch: torch.Tensor) -> Any:
            if ours.rank == 1 and training.step == 5:
                signal.raise_signal(signal.SIGTERM)
            return advance(*batch)

        training.advance = terminated  # type: ignore[method-assign]
        with pytest.raises(program.Terminated):
            training.run(Checkpoints("stopped", processes=ours), "train")

    def both(ours: Processes) -> None:
        train(of, "whole", ours)
        stopped(ours)
        train(of, "stopped", ours)

    ranks.run(2, both)
    whole, resumed = last("whole"), last("stopped")
    assert distance(whole, resumed) == 0  # dropout is on: each process draws its own, from step and rank alone


def test_a_checkpoint_that_one_process_cannot_write_stops_all_of_them(project: Path):
    def both(ours: Processes) -> None:
        train(config(epochs=1), "key", ours)
        if ours.rank == 1:
            checkpoint_files.save = lambda tree, path: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        with pytest.raises(OSError, match="the one after step 4 is in place"):
            train(config(epochs=2), "key", ours)
        assert Checkpoints("key").steps() == [4]

    ranks.run(2, both)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(project: Path):
    with pytest.raises(ValueError, match="a batch of 8 cannot be divided evenly among 3 processes"):
        loop.Training(config(), open_records("tiny"), Processes(0, 3))


def test_processes_with_different_records_are_refused_by_all_of_them(project: Path):
    def work(ours: Processes) -> None:
        assert ours.alike(3)
        records = open_records("tiny")
        other = replace(records, fingerprint="5" * 64) if ours.rank else records
        with pytest.raises(ValueError, match="the processes see different records of tiny"):
            loop.Training(config(), other, ours)
        order = Order(32, 16 if ours.rank else 8, 7, ours.rank, ours.size)
        with pytest.raises(ValueError, match="every process needs a batch of one size, this one has"):
            Stepper(config(), 4, order, ours)

    ranks.run(2, work)


def test_shared_batch_norms_are_batch_norms_of_the_whole_batch(tmp_path: Path):
    """Outputs, gradients and running statistics, in one and in two dimensions, with and without a scale."""
    torch.manual_seed(0)
    cases = [
        (nn.BatchNorm2d(3), torch.randn(6, 3, 4, 5)), (nn.BatchNorm1d(4, affine=False), torch.randn(6, 4)),
        (nn.BatchNorm1d(4, momentum=None), torch.randn(6, 4)),
    ]  # fmt: skip

    def step(norm: nn.Module, value: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
        value = value.clone().requires_grad_()
        output = norm(value)
        (output * weights).sum().backward()
        assert value.grad is not None
        return [output.detach(), value.grad, norm.running_mean, norm.running_var, norm.num_batches_tracked]

    def shared(ours: Processes) -> None:
        for case, (norm, value) in enumerate(cases):
            synced = sync_over_processes(nn.Sequential(norm), on_gpu=False)[0]
            mine = slice(3 * ours.rank, 3 * ours.rank + 3)
            torch.save(step(synced, value[mine], value.cos()[mine]), tmp_path / f"{case}-{ours.rank}.pt")

    ranks.run(2, shared)
    for case, (norm, value) in enumerate(cases):
        whole = step(norm, value, value.cos())
        parts = [torch.load(tmp_path / f"{case}-{rank}.pt") for rank in range(2)]
        for n in range(2):
            torch.testing.assert_close(torch.cat([part[n] for part in parts]), whole[n], rtol=1e-4, atol=1e-5)
        for n in range(2, 5):
            torch.testing.assert_close(parts[1][n], whole[n])
