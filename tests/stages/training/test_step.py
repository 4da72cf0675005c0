"""What one step of a training does to the weights: weight decay, chunks, reduced precision and clipping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stages.config.training import Config
from stages.runtime import devices
from stages.training import loop, networks
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from stages.training.step import optimiser
from tests.stages import small_training
from tests.stages.small_training import config, same, train


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    devices.prepare(1)
    return small_training.prepare(tmp_path, monkeypatch, ["FACET_LOADER_WORKERS"])


def parameters(training: loop.Training) -> dict[str, torch.Tensor]:
    return dict(training.networks.modules().named_parameters())


def test_weight_decay_spares_batch_norms_alone(project: Path):
    training = loop.Training(config(), open_records("tiny"))
    decayed, spared = training.stepper.optimiser.param_groups
    assert decayed["weight_decay"] == 5e-4
    assert spared["weight_decay"] == 0
    norms = [m for m in training.networks.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(spared["params"]) == 2 * len(norms)
    assert any(parameter is training.networks.head.weight for parameter in decayed["params"])
    num_trained = sum(p.requires_grad for p in training.networks.backbone.parameters()) + 1
    assert len(decayed["params"]) + len(spared["params"]) == num_trained


def test_chunks_change_no_gradient_but_for_what_batch_norms_see(project: Path, monkeypatch: pytest.MonkeyPatch):
    """Without batch norms' statistics in the way (evaluation mode), the step is that of the whole batch."""
    def gradients(chunks: int) -> dict[str, torch.Tensor]:
        compute = {"chunks": chunks}
        training = loop.Training(config("adaface", compute=compute, dropout=0.0), open_records("tiny"))
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
        training = loop.Training(config(compute={"chunks": chunks}), open_records("tiny"))
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
    training = loop.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"))
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
    training = loop.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"))
    training.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    training.advance(*next(iter(training.batches())))
    Checkpoints("scaled").save(training.snapshot())
    other = loop.Training(config("cosface", compute={"precision": "fp16"}), open_records("tiny"))
    other.resume(Checkpoints("scaled"), "train")
    assert other.stepper.scaler.get_scale() == training.stepper.scaler.get_scale() <= 512
    assert same(training, other)


def test_clipping_bounds_the_gradient_of_the_backbone_alone(project: Path):
    def gradients(**schedule: Any) -> tuple[float, float]:
        training = loop.Training(config("cosface", **schedule), open_records("tiny"))
        training.advance(*next(iter(training.batches())))
        norms = [p.grad.norm() for p in training.networks.backbone.parameters() if p.grad is not None]
        assert training.networks.head.weight.grad is not None
        return float(torch.stack(norms).norm()), float(training.networks.head.weight.grad.norm())

    free, clipped = gradients(), gradients(clip_norm=0.01)
    assert free[0] > 0.01
    assert clipped == (pytest.approx(0.01, rel=1e-3), free[1])


def test_clipping_covers_a_quality_layer_which_is_part_of_the_published_backbone(project: Path):
    of = config("cosface", clip_norm=0.01).model_copy(update={"objective": {"name": "cr_fiqa"}})
    training = loop.Training(of, open_records("tiny"))
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
    training = loop.Training(config(decayed=decayed), open_records("tiny"))
    names = {id(p): name for name, p in training.networks.modules().named_parameters()}
    free = {names[id(p)] for p in training.stepper.optimiser.param_groups[1]["params"]}
    assert bool(free) == (spared > 0)
    biases_elsewhere = {name for name in names.values() if name.endswith("output.3.bias")}
    assert (biases_elsewhere <= free) == (spared == 2 or not biases_elsewhere)


def test_a_momentum_copy_of_the_backbone_computes_in_the_configured_precision(project: Path):
    tree = config("cosface", compute={"precision": "bf16"}).model_dump()
    tree["objective"] = {"name": "qgface", "queue": "momentum", "queue_size": 16}
    training = loop.Training(Config.model_validate(tree), open_records("tiny"))
    slow = training.networks.objective.slow_backbone
    assert isinstance(slow, torch.nn.Module)
    seen: list[torch.dtype] = []
    slow.input_layer[0].register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    training.advance(*next(iter(training.batches())))
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize(("device", "fused"), [("cuda", True), ("cpu", None)])
def test_a_gpus_weights_are_moved_by_a_fused_kernel_and_a_cpus_as_before(device: str, fused: bool | None):
    made = optimiser(torch.nn.Linear(2, 2), config(), torch.device(device))
    assert isinstance(made, torch.optim.SGD)
    assert made.defaults["fused"] is fused


@pytest.mark.parametrize(
    ("compile", "device", "num_steps", "compiled"),
    [(True, "cpu", 1, True), (False, "cuda", 10**6, False), ("auto", "cpu", 10**6, False), ("auto", "cuda", 2000, False),
     ("auto", "cuda", 2001, True)],
)  # fmt: skip
def test_auto_compiles_on_a_gpu_where_there_are_steps_to_pay_for_it(
    compile: Any, device: str, num_steps: int, compiled: bool
):
    compute = config(compute={"compile": compile}).compute
    assert networks.compiles(compute, torch.device(device), num_steps) is compiled


@pytest.mark.parametrize(
    ("chunks", "order"),
    [(1, ["compiled", "shared", "FlatNet"]), (2, ["shared", "InChunks", "compiled", "FlatNet"])],
)
def test_what_is_shared_among_processes_is_compiled_as_one(
    chunks: int, order: list[str], monkeypatch: pytest.MonkeyPatch
):
    def named(name: str) -> Any:
        def wrap(network: torch.nn.Module, **_: Any) -> torch.nn.Module:
            outer = torch.nn.Module()
            outer.network, outer.name = network, name
            return outer

        return wrap

    monkeypatch.setattr(networks, "DistributedDataParallel", named("shared"))
    monkeypatch.setattr(torch, "compile", named("compiled"))
    of = config(compute={"compile": True, "chunks": chunks})
    called: Any = networks.place(networks.build(of, 4), of.compute, Processes(0, 2))
    found = []
    while True:
        found.append(getattr(called, "name", type(called).__name__))
        if not hasattr(called, "network"):
            break
        called = called.network
    assert found == order


@pytest.mark.parametrize(("device", "fused"), [("cuda", True), ("cpu", None)])
def test_sgd_is_one_kernel_on_a_gpu_and_keeps_its_bits_on_a_cpu(device: str, fused: bool | None):
    made = optimiser(torch.nn.Linear(2, 2), config(), torch.device(device))
    assert isinstance(made, torch.optim.SGD)
    assert made.defaults["fused"] is fused
