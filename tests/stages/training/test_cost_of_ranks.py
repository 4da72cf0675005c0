"""The recipe for WebFace42M on 8 and 64 GPUs: what `facet plan` reckons against steps of one of so many processes.

They run on the meta device, where nothing is exchanged. DDP cannot be built there: a module that holds as much as its
buckets, a copy of all gradients, takes its place.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.config.training import Config
from stages.core.losses.sampler import Order
from stages.runtime import yaml_text
from stages.training import cost, networks
from stages.training.distributed import Processes
from stages.training.step import Stepper
from tests.stages.meta_gpu import Memory
from tests.support import ROOT

PEOPLE, IMAGES = 2_059_906, 42_474_557
META = torch.device("meta")


def recipe(batch_size: int, rate: float, units: list[int] | None, **compute: Any) -> Config:
    tree = yaml_text.parse((ROOT / "profiles/recipes/webface42m.yaml").read_text())
    assert tree["class_sample_rate"] == 0.2
    tree["schedule"]["batch_size"] = batch_size
    tree["backbone"]["units"] = units or tree["backbone"]["units"]
    return Config.model_validate(tree | {"dataset": "webface42m", "class_sample_rate": rate, "compute": compute})


class Buckets(nn.Module):
    """A network beside memory for all its gradients."""

    def __init__(self, network: nn.Module, **_: Any) -> None:
        super().__init__()
        self.network = network
        self.buckets = torch.empty(sum(parameter.numel() for parameter in network.parameters()))

    def forward(self, image_B3HW: Tensor) -> Tensor:
        feature_BD: Tensor = self.network(image_B3HW)
        return feature_BD


@pytest.fixture
def nothing_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *of, **named: contextlib.nullcontext())
    monkeypatch.setattr(Processes, "alike", lambda *of: True)
    monkeypatch.setattr(networks, "DistributedDataParallel", Buckets)
    for name in ("all_reduce", "all_gather"):
        monkeypatch.setattr(dist, name, lambda *of, **named: None)


FEW = [1, 1, 1, 1]


# the recipe's network once, which takes seconds; then one of a few layers
@pytest.mark.parametrize(
    ("count", "batch_size", "rate", "units"),
    [(8, 1024, 0.2, None), (8, 1024, 1.0, FEW), (64, 8192, 0.2, FEW), (64, 8192, 1.0, FEW)],
)
def test_memory_of_each_of_many_gpus_is_what_its_step_holds_at_most(
    count: int, batch_size: int, rate: float, units: list[int] | None, nothing_exchanged: None
):
    of = recipe(batch_size, rate, units, precision="fp32")
    reckoned, order = cost.cost(of, PEOPLE, count), Order(IMAGES, batch_size, 1, count - 1, count)
    with Memory() as memory:
        with META:
            stepper = Stepper(of, PEOPLE, order, Processes(count - 1, count, META))
            image_VBHW3 = torch.empty(1, batch_size // count, 112, 112, 3, dtype=torch.uint8)
            label_B = torch.empty(batch_size // count, dtype=torch.int64)
        stepper.advance(0, image_VBHW3, label_B)
        memory.peak = 0
        stepper.advance(1, image_VBHW3, label_B)
    assert len(stepper.span) == PEOPLE // count
    assert reckoned.total_bytes - cost.CONTEXT == pytest.approx(memory.peak, rel=0.15)
