"""Optimisers, learning rates and the average of the weights: what a step does, and that every way resumes and is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stages import train_backbone
from stages.runtime import artifacts, devices
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from tests.stages import ranks, small_training
from tests.stages.small_training import WAYS, config, distance, last, same, train

SHARED = {"sync_batch_norm": True, "precision": "fp64"}
AVERAGED = WAYS["adamw"]
NEW = [way for way in WAYS if way != "sgd"]  # which test_loop.py has


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    devices.prepare(1)
    return small_training.prepare(tmp_path, monkeypatch, small_training.PROCESS_VARIABLES)


def train_until(of: Any, key: str, step: int, ours: Processes | None = None) -> None:
    training = loop.Training(of, open_records("tiny"), ours)
    for batch in training.batches():
        training.advance(*batch)
        if training.step == step:
            Checkpoints(key, processes=ours).save(training.snapshot())
            return


def stopped(of: Any, step: int) -> loop.Training:
    """Return a training that is interrupted when it would take the step after ``step``."""
    training = loop.Training(of, open_records("tiny"))
    advance = training.advance

    def until_stopped(*batch: torch.Tensor) -> Any:
        if training.step == step:
            raise KeyboardInterrupt
        return advance(*batch)

    training.advance = until_stopped  # type: ignore[method-assign]
    return training


@pytest.mark.parametrize("way", NEW)
def test_every_way_learns(way: str, project: Path):
    training = train(config("cosface", **WAYS[way] | {"epochs": 12}))
    assert training.history[-1]["loss"] < training.history[0]["loss"]
    assert training.history[-1]["accuracy"] > 0.5  # four identities: chance is a quarter


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("way", NEW)
def test_a_training_stopped_at_any_step_ends_in_the_same_bits(
    way: str, rate: float, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FACET_CHECKPOINT_SECONDS", "0")
    of = config("adaface", **WAYS[way]).model_copy(update={"class_sample_rate": rate})
    wanted = train(of, "whole")
    for stop in (1, 6):
        with pytest.raises(KeyboardInterrupt):
            stopped(of, stop).run(Checkpoints(f"stopped-{stop}"), "train")
        resumed = train(of, f"stopped-{stop}")
        assert same(wanted, resumed)
        assert resumed.history == wanted.history
        assert distance(last(f"stopped-{stop}"), last("whole")) == 0


@pytest.mark.slow
def test_two_processes_end_where_one_does_and_any_number_goes_on_from_their_checkpoint(project: Path):
    """With a large epsilon: AdamW divides the rounding errors of gradients that should be 0, before batch norms, by it."""
    of = config("adaface", compute=SHARED, dropout=0.0, **AVERAGED | {"batch_size": 12, "epochs": 2, "epsilon": 1e-4})
    train(of, "one")

    def both(ours: Processes) -> None:
        train(of, "two", ours)
        for count in (1, 3):
            train_until(of, f"by-{count}", 3, ours)

    ranks.run(2, both)
    train(of, "by-1")
    ranks.run(3, lambda ours: train(of, "by-3", ours))
    for key in ("two", "by-1", "by-3"):
        assert distance(last(key), last("one")) < 1e-9, key


def test_processes_that_share_a_sample_of_the_classes_resume_to_the_same_bits(project: Path):
    of = config("cosface", **AVERAGED | {"epochs": 2}).model_copy(update={"class_sample_rate": 0.5})

    def both(ours: Processes) -> None:
        train(of, "whole", ours)
        train_until(of, "cut", 3, ours)
        train(of, "cut", ours)

    ranks.run(2, both)
    assert distance(last("whole"), last("cut")) == 0


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_the_head_learns_at_its_own_rate_and_the_backbone_at_the_other(optimiser: str, rate: float, project: Path):
    def moved(scale: float) -> tuple[float, float]:
        of = config("cosface", optimiser=optimiser, weight_decay=0.0, head_learning_rate_scale=scale)
        training = loop.Training(of.model_copy(update={"class_sample_rate": rate}), open_records("tiny"))
        parts = [list(training.networks.backbone.parameters()), [training.networks.head.weight]]
        before = [[p.detach().clone() for p in part] for part in parts]
        training.advance(*next(iter(training.batches())))
        changes = [torch.cat([(p - old).flatten() for p, old in zip(part, olds, strict=True)]).norm()
                   for part, olds in zip(parts, before, strict=True)]  # fmt: skip
        return float(changes[0].detach()), float(changes[1].detach())

    one, third = moved(1.0), moved(1 / 3)
    assert third == (one[0], pytest.approx(one[1] / 3, rel=1e-4))


@pytest.mark.parametrize("decayed", ["all", "all_but_batch_norms", "all_but_batch_norms_and_biases", "all_but_vectors"])
def test_no_parameter_is_lost_or_moved_twice_where_the_head_has_a_rate_of_its_own(decayed: str, project: Path):
    training = loop.Training(config(decayed=decayed, head_learning_rate_scale=2.0), open_records("tiny"))
    groups = training.stepper.optimiser.param_groups
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in training.networks.modules().parameters() if p.requires_grad)
    assert {id(p) for group in groups if group["rate_scale"] == 2 for p in group["params"]} == {
        id(training.networks.head.weight)
    }


def test_cvlface_decays_matrices_and_kernels_alone(project: Path):
    training = loop.Training(config(decayed="all_but_vectors"), open_records("tiny"))
    decayed, spared = training.stepper.optimiser.param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in spared["params"]} == {1}
    prelus = [m for m in training.networks.backbone.modules() if isinstance(m, torch.nn.PReLU)]
    assert {id(m.weight) for m in prelus} <= {id(p) for p in spared["params"]}


def test_the_average_is_that_of_the_weights_after_each_step(project: Path):
    training = loop.Training(config(**AVERAGED), open_records("tiny"))
    average = training.stepper.average
    assert average is not None
    parts = {"backbone": training.networks.backbone, "head": training.networks.head}
    wanted = {f"{part}.{key}": value.clone() for part, module in parts.items() for key, value in module.state_dict().items()}
    for batch in training.batches():
        training.advance(*batch)
        decay = min(0.9, (1 + training.step) / (10 + training.step))
        for part, module in parts.items():
            for key, value in module.state_dict().items():
                name = f"{part}.{key}"
                is_mean = value.is_floating_point() and (part == "backbone" or key == "weight")
                wanted[name] = decay * wanted[name] + (1 - decay) * value if is_mean else value.clone()
    state = average.modules.state_dict()
    assert state.keys() == wanted.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(state["backbone.input_layer.0.weight"], training.networks.backbone.input_layer[0].weight)


def test_the_average_changes_no_weight(project: Path):
    plain = AVERAGED | {"ema_decay": None, "ema_warmup": False}
    with_it, without = train(config(**AVERAGED), "with"), train(config(**plain), "without")
    for name, value in without.networks.modules().state_dict().items():
        assert torch.equal(with_it.networks.modules().state_dict()[name], value), name


@pytest.mark.parametrize("keep", ["last", "ema"])
def test_the_average_is_looked_at_beside_the_last_and_written_beside_it(
    keep: str, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("stages.models.model_files.save_program", lambda path, *_, **__: path.write_bytes(b""))
    shown: list[torch.nn.Module] = []

    def look(backbone: torch.nn.Module) -> dict[str, float]:
        shown.append(backbone)
        return {"avg": len(shown) / 10}

    monkeypatch.setattr(train_backbone, "validation", lambda _: look)
    of = config(**AVERAGED | {"epochs": 2}, validation={"every_epochs": 1, "sets": ["lfw"], "keep": keep})
    train_backbone.train("run", of, Processes())
    metrics = artifacts.read_json(Path("results/run/train.json"))
    assert (metrics["validation_avg"], metrics["validation_ema_avg"], metrics["weights_are"]) == (0.3, 0.4, keep)
    assert len({id(backbone) for backbone in shown}) == 2
    other = "ema" if keep == "last" else "last"
    files = {path.name for path in Path("runs/run/backbone").glob("*.pt")}
    assert files == {"weights.pt", f"{other}.pt"}
    found = {keep: "weights.pt", other: f"{other}.pt"}
    again = train(of.model_copy(update={"validation": config().validation}), "again")
    assert again.stepper.average is not None
    wanted = {"last": again.networks.backbone, "ema": again.stepper.average.backbone}
    for name, file in found.items():
        tree = torch.load(f"runs/run/backbone/{file}", weights_only=True)
        torch.testing.assert_close(dict(tree["backbone"]), dict(wanted[name].state_dict()), rtol=0, atol=0)


def test_an_average_has_the_quality_layer_too(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stages.models.model_files.save_program", lambda path, *_, **__: path.write_bytes(b""))
    of = config("cosface", **AVERAGED | {"epochs": 1}).model_copy(update={"objective": {"name": "cr_fiqa"}})
    train_backbone.train("run", of, Processes())
    last, ema = (torch.load(f"runs/run/backbone/{name}.pt", weights_only=True) for name in ("weights", "ema"))
    assert last["quality"].keys() == ema["quality"].keys() == {"weight", "bias"}
    assert not torch.equal(last["quality"]["weight"], ema["quality"]["weight"])
