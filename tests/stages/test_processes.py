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

from stages import artifacts, checkpoints, plugins, processes, program, train_backbone, trainer
from stages.checkpoints import Checkpoints, Snapshot
from stages.core.batch_norm import sync_over_processes
from stages.core.head import HeadOutput
from stages.core.objective import Objective
from stages.processes import Processes
from stages.samples import open_records
from stages.training import Config
from tests.stages import ranks, training_data
from tests.stages.small_training import config

SHARED = {"sync_batch_norm": True, "precision": "fp64"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    training_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.artifacts.STATE", tmp_path / ".facet")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "FACET_PROCS", "FACET_LOADER_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def train(of: Config, key: str, ours: Processes | None = None, until: int | None = None) -> None:
    """Train to the end, or to a step; leave a checkpoint under ``key``."""
    training = trainer.Training(of, open_records("tiny"), ours)
    saved = Checkpoints(key, processes=ours)
    if until is None:
        training.run(saved, key)
        return
    for batch in training.batches():
        training.advance(*batch)
        if training.step == until:
            saved.save(training.snapshot())
            return


def last(key: str) -> Snapshot:
    snapshot = Checkpoints(key).last()
    assert snapshot is not None
    return snapshot


def distance(left: Snapshot, right: Snapshot) -> float:
    """Return the largest difference of a tensor of the two states, by norm; relative where it is no rounding error."""
    def tensors(of: Snapshot) -> dict[str, torch.Tensor]:
        backbone = {f"backbone.{name}": value for name, value in of.shared["backbone"].items()}
        tree = {**of.rows, **backbone, **of.shared["head"], **of.own}
        return {name: value.double() for name, value in (tree | momenta(of)).items()}

    def momenta(of: Snapshot) -> dict[str, torch.Tensor]:
        return {f"momentum.{name}": value for name, value in of.shared["momenta"].items()}

    a, b = tensors(left), tensors(right)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).norm() / b[name].norm().clamp_min(1e-2)) for name in a)


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
        del tree["weights_sha256"]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-9)


def test_an_overflow_in_the_classes_of_one_process_skips_the_step_in_all(project: Path):
    def both(ours: Processes) -> None:
        training = trainer.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"), ours)
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
        training = trainer.Training(of, open_records("tiny"), ours)
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


@pytest.fixture
def two_views(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    plugin = SimpleNamespace(
        Config=plugins.load("objectives", "classification").Config,
        build=lambda of, feature_dim, num_classes: TwoViews(feature_dim),
    )
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: plugin if kind == "objectives" else load(kind, name))
    return {"name": "classification"}


def test_two_views_and_an_objective_with_parameters_are_shared_too(project: Path, two_views: dict[str, str]):
    of = config("cosface", compute=SHARED, dropout=0.0, epochs=1)
    ranks.run(2, lambda ours: train(of, "two", ours))
    train(of, "one")
    one, two = last("one"), last("two")
    assert torch.linalg.vector_norm(one.own["weigh.weight"] - two.own["weigh.weight"]) < 1e-9
    assert distance(two, one) < 1e-9
    # the queue of the second process holds the second half of the batch: kept for it, when it goes on
    parts = [torch.load(Checkpoints("two").path(4) / f"rank-0000{rank}-of-00002.pt") for rank in range(2)]
    assert not torch.equal(parts[0]["own"]["queue"], parts[1]["own"]["queue"])


def test_processes_that_stop_on_sigterm_stop_at_one_step_and_go_on_as_if_they_had_not(project: Path):
    of = config("cosface", compute=SHARED, epochs=3)

    def stopped(ours: Processes) -> None:
        training = trainer.Training(of, open_records("tiny"), ours)
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
            checkpoints._save = lambda tree, path: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        with pytest.raises(OSError, match="the one after step 4 is in place"):
            train(config(epochs=2), "key", ours)
        assert Checkpoints("key").steps() == [4]

    ranks.run(2, both)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(project: Path):
    with pytest.raises(ValueError, match="a batch of 8 cannot be shared evenly by 3 processes"):
        trainer.Training(config(), open_records("tiny"), Processes(0, 3))


@pytest.mark.parametrize(
    ("environment", "message"),
    [({"FACET_PROCS": "0"}, "FACET_PROCS should be the number"), ({"FACET_PROCS": "two"}, "got 'two'")],
)
def test_a_number_of_processes_that_is_none_is_refused(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        processes.wanted(1)


def test_a_process_that_was_started_as_one_of_several_starts_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("FACET_PROCS", raising=False)
    assert processes.wanted(3) == 3
    monkeypatch.setenv("FACET_PROCS", "2")
    assert processes.wanted(3) == 2
    monkeypatch.setenv("RANK", "1")
    assert processes.wanted(3) == 1


@pytest.mark.parametrize(("rank", "size"), [("1", "1"), ("x", "2"), ("2", "2")])
def test_a_rank_that_cannot_be_is_refused(rank: str, size: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match="RANK and WORLD_SIZE should be numbers"):
        processes.rank_and_size()


LAUNCHED = """
import os, signal, sys, time
rank, way = os.environ["RANK"], sys.argv[1]
print(f"line of {rank}", file=sys.stderr, flush=True)
if way == "fine":
    assert os.environ["WORLD_SIZE"] == "2" and os.environ["LOCAL_RANK"] == rank and int(os.environ["MASTER_PORT"])
elif way == "one fails" and rank == "1":
    time.sleep(0.2)
    print("error: what went wrong", file=sys.stderr)
    sys.exit(2)
elif way == "one is killed" and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
elif way == "one loses the other" and rank == "0":
    time.sleep(0.1)
    sys.exit(1)
elif way == "one loses the other":
    time.sleep(0.4)
    print("error: the cause", file=sys.stderr)
    sys.exit(2)
else:
    time.sleep(100)
"""


def launch(way: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "launched.py").write_text(LAUNCHED)
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setattr(processes, "GRACE_S", 1.0)
    processes.launch("launched", [way], 2)


def test_started_processes_get_what_torchrun_would_give_them_and_the_first_is_heard(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    launch("fine", project, monkeypatch)
    assert capsys.readouterr().err == "line of 0\n"


def test_when_one_process_fails_the_others_are_ended_and_its_sentence_is_shown_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        launch("one fails", project, monkeypatch)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("error: what went wrong") == 1


def test_the_process_that_says_why_is_believed_before_those_that_lost_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as left:
        launch("one loses the other", project, monkeypatch)
    assert left.value.code == 2
    assert "error: the cause" in capsys.readouterr().err


def test_a_process_that_was_killed_is_named_with_its_signal(project: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="process 1 of 2 was ended by SIGKILL: out of memory"):
        launch("one is killed", project, monkeypatch)


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
